"""Several simulations on the same split, side by side: what is run, what is kept, and the tables of it.

`command` is ``fedapt-secure compare``: `wanted` are its settings, `cases` the simulations that follow from
them, `runs` carries them out, `store` takes finished ones over; `figures` adds them up, `output`, `display`
and `picture` show them, `unseen` joins runs that leave a domain out.

Comes in: summaries of runs, never a party's files.
"""
