"""The coordinator: runs rounds and adds up protected updates; never sees one.

Rooms, in the order in which they may import each other: `session` (one session, without I/O), `archive` (the
sessions of the past, on disk), `ports` (who may connect, and what one connection may cost), `membership` (who
belongs to the federation, and the enrolment port). Around them, from below: `settings`, `narration`,
`refusal`, `metrics` and `status` (what people set and read); from above: `service` carries out what the
session asks for, `running` starts and stops the ports, ``__main__`` is the process. No torch, and nothing
here imports the client.
"""
