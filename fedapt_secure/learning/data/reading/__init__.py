"""Which labelled images an institution has, and their pixels: one clear line for whatever is odd.

`listing` and `manifest` say what a source has, `classes` where class lists disagree, `records` numbers
images and says which are for tests, `balance` counts them; `images` opens one file as upright RGB,
`decoding` many in several threads, `augmentation` makes the views of training without labels.

Comes in: files that may be anything. Nothing of what is read here may leave the institution.
"""
