"""A simulated world: a whole federation under one clock, one in-memory network and a list of operations.

The parties are the real ones: `CoordinatorSession` with its store, `InstitutionRunner` with its session
machine, ledger, policy and log, secure aggregation with real keys, all files on disk. Simulated are the
clock, the network, the event loop, and training, whose results are chosen so that a wrong sum shows at once.

What counts as a failure (`Violation`, or any exception that no party of a deployment would end with):
- a completed round whose sum is not that of its recorded contributors' updates, or a round completed twice;
- an institution that reveals both secrets of another in one execution, or sends two masked inputs in a round,
  or one that its ledger does not know to be released;
- a ledger that says less than was used, at any instant;
- after all faults have ended: a party that comes to no end, stops with an error, or ends with another model;
- logs in which the auditor sees tampering or a violation.

In a tenth of the schedules the coordinator lies besides (`lying`, which says what counts as a failure there).

What does not: a round aborted, an institution that sits a round out or misses the record of the end, a frame
refused, a repeated frame that costs its receiver the round.
"""
