"""Sessions one after the other: whether another begins, what is kept of each, what is handed out later.

`starting` decides what the next session is, without I/O; `store` keeps every session on disk (SQLite and
safetensors); `finished` answers those who ask for the model of one that has ended; `own_log` reads what the
coordinator's log says about times past.

Comes in: plans, rosters, and the progress that `session` hands out.
"""
