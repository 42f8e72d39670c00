"""A whole federation on one machine: the same server, client and crypto code as a real deployment.

Rooms, in the order in which they may import each other: `engines` (what runs the parties), `setup` (a run
folder as separate people would make it), `running` (the session, and the logs followed while it lasts),
`results` (what came of it). `command` is ``fedapt-secure simulate``; `leave_one_out` and `comparison` run
it several times. With `fedapt_secure.cli` the one place that knows both server and client.
"""
