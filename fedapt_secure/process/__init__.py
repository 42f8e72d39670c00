"""What a process of ours is to whoever starts it, and what it shows: the same for every command and service.

How it ends: `exit_status` is the one table of statuses, `ending` turns an error into one line and a status,
`interrupts` takes Ctrl-C at any moment. What it shows: `shown` makes text from outside safe for a screen,
`streams` lets every text through whatever the encoding, or makes standard error a log of JSON lines, `screen`
prints tables that lose nothing on a narrow terminal. `paths` refuses paths that no system can take.

Comes in: errors, and text of anybody's. Standard library alone but for `screen`, so quick to import.
"""
