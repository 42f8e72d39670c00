"""Settings files and the folder of a party: what people write, and where keys and certificates lie.

`settings` reads a flat YAML file into a strict model, every mistake one clear line; `annotated` writes one
that explains itself; `party_folder` is a party's keys, certificates and roster, each 0600 (`key_files`,
`passphrase`); `policy` is what no coordinator can talk an institution into; `database` and `locking` keep
small files whole; `structured_log` is what a service says on standard error; `simulate`, `unsupervised` and
`gradient_units` hold words that settings and sessions share.

Comes in: files that people edit. No torch, no socket.
"""
