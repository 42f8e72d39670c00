"""The methods: what an institution trains, and how the finished model classifies.

`base` is the interface: a gradient on an institution's records, and a classifier made of its tensors;
`settings` are the public figures of training; `registry` finds a method by its name. `fedapt` is FedAPT's
model, `prompts` trains it and PromptFL.

A new method is a file here, a line in `registry` and one in `fedapt_secure.protocol.methods`, and passes
``tests/learning/methods/test_every_method.py``. Where a task is private, its gradient comes from
`privacy.dp`.
"""
