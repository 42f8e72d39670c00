"""One session at the coordinator, without I/O: events in, actions out.

`machine.CoordinatorSession` takes what comes from institutions and clocks; it returns `actions`, frozen
values that `fedapt_server.service` carries out in their order. `agenda` says which attempt is next,
`attendance` who is there, `gathering` whether it can begin; `round` drives one secure-aggregation machine
to its `outcome`; `reception` is what a newcomer gets, `closing` and `witness` agree on what was logged.
`progress` is all that has to survive a crash, `bodies` what log lines say, `states` where everybody stands.

Comes in: messages of members, already known to come from them. No file, socket or clock; imports no other
room of the server.
"""
