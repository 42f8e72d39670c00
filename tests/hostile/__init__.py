"""A coordinator that lies, over real sockets: many behaviours, each with what must come of it.

Read `table` first: one row a behaviour, in plain words, with who ends with which model, what stands in the
institutions' logs and in the coordinator's, and what the audit says. Each row is a `Lie` (in `lies`): a small
deviation of the real coordinator, which changes the frames that it sends, does not take those that come, or
decides otherwise. `stage` sets a federation up and runs it as `simulate` does, over TLS, and `truth` has what
must hold in every row:

- an institution holds no model but a right one, bit for bit as computed from the updates;
- the coordinator never comes to know two sums over different institutions from one model;
- the audit finds no institution at fault that did as it should.

A coordinator that ignores somebody, or does not go on, is a dropout or an outage: nobody can forbid either.
What is not here: a coordinator in league with an institution, which knows the group secret (SECURITY.md).

A new behaviour: write its `Lie`, add a row that says what must come of it, run
``pytest tests/hostile/test_behaviours.py -k 'part of its name'``, and then ``python -m tests.hostile.page``.
"""
