"""What one step sees: which records were sampled, in which units of privacy, and what they teach.

`sampling` is Poisson sampling from a keystream, a secret that the guarantee rests on; `units` keeps a
person's records together; `examples` are rows with targets, the same for labelled records, pseudo-labels
and neighbours. No gradients and no noise here.
"""
