"""Local: what each institution reaches with its own images alone, for comparison.

It trains the context that PromptFL trains. Alone there are no other domains to tell its own from, so there
are no keys and no adaptive network; and nobody to exchange rounds with, so all steps follow each other.
"""

from fedapt_secure.learning.methods.prompts import PromptFl


class Local(PromptFl):
    """One learned context, of one institution."""
