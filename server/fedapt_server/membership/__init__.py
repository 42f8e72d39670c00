"""Who belongs to the federation: invitations, certificates, the signed roster, revocation.

`store` keeps the records (SQLite), whose tables and rows are in `records`; `registrar` takes the decisions,
`refused` says what it does not grant; `certifying` signs certificates where the clock can be believed,
`own_certificate` looks after the coordinator's; `publication` makes the signed roster and the revocation list
from the records; `founding` begins it all, with the files of `templates`. `enrolment_desk` answers one
conversation at the enrolment port without sockets, `enrolment_service` is the port's I/O shell.

Comes in: requests of strangers with a one-time token, and the operator's commands. Knows nothing of
sessions.
"""
