"""What an auditor was handed, and what it says: from files to lines to facts. Nothing is judged here.

`files` tells which files belong to which log and whose keys to check them against; `bodies` reads lines as
strict models; `collect` makes them a party's policies, sessions, plans and spends; `facts` keeps heads,
rounds, sums and spends of all logs in a private temporary database; `participation` is who took part in which
round, `hiding` whether a session's sums hide a single institution.

Comes in: files of parties that may lie. Goes out: facts, and findings where a line does not hold.
"""
