"""What a run came to: the summary gathered from logs and evaluations, and its tables for people.

`summary` makes ``summary.json``; `unseen` evaluates on a domain that took no part; `display`,
`balance_table`, `privacy_table` and `unseen_table` show it, `run_report` writes it as a page. One operator
owns all parties of a simulation, so all of it may be seen here; in a real federation it stays with each.
"""
