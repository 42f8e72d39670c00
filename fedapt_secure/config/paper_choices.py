"""Words of choices that exist for papers' experiments: how they batch, and deal data; never private."""

from typing import Final, Literal

DirichletOver = Literal["classes", "clients"]
"""What a Dirichlet distribution divides: each institution draws shares of the classes, and all have as many
images; or each class draws shares of the institutions, which then differ in size."""
OVER_CLASSES: Final = "classes"
OVER_CLIENTS: Final = "clients"


def steps_said(local_steps: int, batch_size: int | None, local_epochs: int) -> str:
    """Return in a few words what an institution does in a round.

    Args:
        local_steps: Steps, of Poisson samples.
        batch_size: Records of a step, of passes; ``None`` for Poisson samples.
        local_epochs: Passes.
    """
    if batch_size is None:
        return "1 step" if local_steps == 1 else f"{local_steps} steps"
    return f"{local_epochs} {'pass' if local_epochs == 1 else 'passes'} in batches of {batch_size}"


WHY_BATCHES_ARE_NOT_PRIVATE: Final = (
    "its accounting is of records that are drawn independently, and passes over shuffled ones are none"
)
"""Why steps are Poisson samples under differential privacy."""
