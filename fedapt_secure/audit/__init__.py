"""What anybody can conclude from logs afterwards. No torch and no network: an auditor installs neither.

Rooms, in the order in which an audit passes through them: `evidence` (what was handed in, what each log
says), `checks` (logs held against each other, against witnessed heads, against budgets), `report` (text,
JSON, one HTML page). `findings` is what can be concluded, below all of them; `judgement` runs every check
and states the verdicts, between `checks` and `report`.

What institutions sign about sums, and what a plan means, it takes from `fedapt_secure.protocol`, which does
not know it.
"""
