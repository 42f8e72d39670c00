"""People are told when it matters: a command that is run, or a webhook that is posted.

`settings` is the part ``notify`` of ``client.yaml`` and ``server.yaml``; `sender` hands events on, in a
thread of its own. What leaves is an event's name, a session and a code of a closed list: no sentence, no
figure, no name of an image or a class.
"""
