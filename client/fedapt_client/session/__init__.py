"""One session as an institution sees it, without I/O: messages in, actions out.

`machine.InstitutionSession` takes the coordinator's messages and answers what was done (`machine`, with
`states` for where it stands); it returns `actions`, frozen values that `fedapt_client.conduct` carries out in
their order. `requirements` says what is insisted on before joining, `opening` reads secrets that were sealed
to us, `round_part` is one attempt at a round, `closing` and `witness` agree with the others on what was
logged, `grouping` comes to the group secret. `own_model` is the session's model and what binds us until a sum
has come, `missed` takes one that came late, `kept_model` is what is stored.

Comes in: messages, the roster that people approved, keys. No file, socket, clock or torch; imports no other
room of the client.
"""
