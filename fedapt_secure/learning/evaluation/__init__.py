"""How well models do on labelled records: `scores` of the untuned and the tuned one, `tally` counts answers.

Comes in: features that stay at home. What comes out is about held-out images and stays there too, unless a
policy says otherwise.
"""
