"""What a process of ours is to whoever starts it, and what it shows: the same for every command and service.

`exit_status` is the one table of how processes end, and which error ends them how.

Comes in: nothing but errors. Standard library alone, quick to import.
"""
