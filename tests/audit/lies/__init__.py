"""A party that lies while it writes its log, with its own genuine key: what of that does the audit find?

For every field of every record, `scenes` plays a whole federation live (`tests.world`: real machines, shells,
ledgers and keys) in which one party writes another plausible value from the start, everything else genuine:
its lines are signed by it, and their heads witnessed by the others. Then the real audit reads all logs.

Either it finds the lie, as VIOLATED or TAMPERED, in that party's log and with the field's name. Or the field
stands in `table`, with the reason why nobody else could know. There is no third way: a new field that is in
neither fails `test_fields`, and ``python -m tests.audit.lies.page`` writes the table into docs/audit.md.

`stories` are lies over several records that agree with each other; `fields` has what is plausible.
"""
