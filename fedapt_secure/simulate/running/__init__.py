"""Run a federation that is set up: the coordinator first, then everybody else, all logs followed.

`run` is the one way that all commands take: `session_run` for a session, `alone` for methods without a
federation. `turnstile` lets institutions start a few at a time.
"""
