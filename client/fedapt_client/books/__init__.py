"""What an institution has promised, spent and logged: durable before it happens, never undone.

`ledger.Ledger` reserves and spends privacy by data set (`ledger_file`: SQLite, `ledger_events`: what its
lines say, `fingerprints`: by what it knows images again); `books.Books` holds policy and ledger together and
admits or refuses a session; `approval` is what people agreed to; `own_log` is what our log says of the past,
`bodies` what its next lines say; `in_force` finds the policy for all who show or apply it;
`group_journal` keeps what a CKKS key was used for.

Comes in: plans and actions of `session`. No socket, no torch.
"""
