"""How the parties of a run are run: in this process, in a process each, or as Ray actors.

`engine` is the interface and `choosing` takes the one that is asked for: `tasks` (the default),
`processes`, `ray_actors` (with `ray_room`, which knows without Ray whether a cluster is large enough).
`patience` says what many parties on one machine need more of.

Whatever the engine, the parties are those of a real deployment; an engine starts them and no more.
"""
