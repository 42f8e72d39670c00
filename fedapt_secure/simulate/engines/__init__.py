"""How the parties of a run are run: in this process, in a process each, or as Ray actors."""
