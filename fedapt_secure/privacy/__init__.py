"""Privacy budgets: what was planned, what was spent, and when to stop. No torch here.

`budget` plans an institution's spend before its first step and says when to stop; `composition` says what
several sessions on the same records cost together; `unit` whether an image or a person is protected.

Comes in: figures. An accountant is handed in by whoever has one: `learning.privacy.accounting` in training.
Imports nothing of ours but `fedapt_crypto`.
"""
