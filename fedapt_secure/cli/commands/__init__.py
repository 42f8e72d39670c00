"""Commands and their options, a file for each group: what people type, and what ``--help`` says.

`client` (with `client_run` and `client_ledger`), `server`, `simulate` and `compare` (with the `run_options`
that they share), `use` and `cache`. Quick to import: no torch, no numpy; what a command does is in `work`,
or in `fedapt_secure.simulate`, and is imported when it is done.

A new command is a function here, added to its group; its work and what it prints are a file in `work`.
"""
