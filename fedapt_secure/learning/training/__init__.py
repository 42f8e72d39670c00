"""An institution's training between two rounds: from the global model to the difference it gives back.

`local.LocalTrainer` takes the steps. Images without labels become examples in `pseudo_labels` (first stage
of FedAPT's unsupervised setting) and `consistency` (second stage); `unlabelled_records` keeps what they
need from round to round.

Comes in: a task, records, a vector of parameters. Goes out: a difference of parameters, never a loss or a
batch size.
"""
