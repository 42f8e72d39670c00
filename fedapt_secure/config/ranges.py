"""Which numbers each setting takes, and why: a number outside can only be a slip, or hope.

One `Range` stands for one quantity, wherever it is set. As the annotation of a field it checks the field;
commands check their own options by `Range.check`. `docs/settings.md` is written from these.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

from fedapt_secure.privacy.budget import LARGEST_DELTA

MAX_STEPS: Final = 100_000
"""Of one institution in a session: a thousand times what was useful on any data so far."""
SLOWEST_KBIT_S: Final = 32
"""What moves more slowly than this counts as a connection that hangs."""


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have.

    Attributes:
        low, high: Both finite, and allowed themselves unless ``low_open`` or ``high_open``.
        reason: Why not less and not more.
        unit: What follows the numbers.
    """

    low: float
    high: float
    reason: str
    unit: str = ""
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number lies inside; what is not a number does not."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        """``0 to 1``, with ``more than`` and ``less than`` where an end is not inside."""
        low = f"more than {number(self.low)}" if self.low_open else number(self.low)
        high = f"less than {number(self.high)}" if self.high_open else number(self.high)
        return f"{low} to {high}{self.unit and ' ' + self.unit}"

    def check(self, value: float) -> None:
        """Raise `ValueError`, naming the value, the range and the reason, where it lies outside."""
        if value not in self:
            raise ValueError(f"{number(value)} is not in the range {self}: {self.reason}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic check fields that are annotated with a range."""
        from pydantic_core import core_schema  # noqa: PLC0415 - commands use ranges without pydantic

        inner = core_schema.no_info_before_validator_function(_no_truth_value, handler(source))
        return core_schema.no_info_after_validator_function(self._checked, inner)

    def _checked(self, value: float) -> float:
        self.check(value)
        return value


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")  # noqa: TRY004 - pydantic takes ValueError
    return value


def number(value: float) -> str:
    """Return a number as people write it: 100,000 and 0.5, and 1e+30 where that is shorter."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**24 else "a number beyond 10^24"
    if math.isfinite(value) and abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.6g}"


# Privacy
EPSILON: Final = Range(
    0.03,
    100,
    "below it the accountant, exact to 0.01, says nothing; above it one image may change the odds of what is"
    " seen by more than e^100, which is no protection",
)
SESSION_DELTA: Final = Range(
    0,
    LARGEST_DELTA,
    "the chance that ε promises nothing at all: above one in a hundred nobody can rely on it",
    low_open=True,
)
RDP_ORDER: Final = Range(
    1,
    100_000,
    "an order of Rényi divergence; the default for the smallest ε and δ is less",
    low_open=True,
)
SAMPLE_RATE: Final = Range(1e-6, 1, "a share of the records; below it no step would see any")
ROUNDS: Final = Range(1, MAX_STEPS, "each round is at least one step, and accounting ends at so many")
LOCAL_STEPS: Final = Range(1, MAX_STEPS, "accounting ends at so many steps")
BATCH_SIZE: Final = Range(1, 1 << 24, "records of a step; nobody can have more in one")
LOCAL_EPOCHS: Final = Range(1, 1000, "passes over an institution's records in one round")
TEST_SHARE: Final = Range(0.01, 0.9, "a share of each class' images; what is left must be enough to train on")
MAX_GRAD_NORM: Final = Range(
    1e-6, 1e6, "gradients of features of length 1; beyond it float32 loses either them or the noise"
)
COUNT_OF_RECORDS: Final = Range(1, 10**9, "training images, or persons, of one institution")
LEAST_OF_RECORDS: Final = Range(0, 10**9, "training images, or persons, of one institution; 0 asks for none")

# Training
LEARNING_RATE: Final = Range(
    1e-8, 10_000, "below it a float32 parameter does not move; above it one step leaves every useful region"
)
MOMENTUM: Final = Range(0, 0.999, "a share of the step before; at 1 steps would never fade")
WEIGHT_DECAY: Final = Range(0, 10, "a penalty on parameters of order 1; above it nothing else counts")
PROXIMAL_WEIGHT: Final = Range(0, 1000, "above it nothing leaves the round's start; FedProx tries 0.001 to 1")
TEMPERATURE: Final = Range(
    1e-4,
    100,
    "it divides similarities of -1 to 1: below, float32 overflows; above, all keys count alike",
)
LOSS_TEMPERATURE: Final = Range(
    0.01,
    1000,
    "it divides logits of -100 to 100: below, float32 overflows; above, every class is as probable",
)
LOSS_WEIGHT: Final = Range(
    1e-3, 1000, "a share of the clipping norm: beyond it one of the two losses is noise alone"
)
PRIOR_WEIGHT: Final = Range(0, 1, "a share: 0 keeps nothing of the untuned model, 1 nothing of the tuned one")
UPDATE_CLIP: Final = Range(
    1e-6,
    1e6,
    "what one parameter may change in a round; 32-bit integers represent nothing finer beside more, see"
    " docs/settings.md",
)
CONFIDENCE: Final = Range(0, 1, "a probability; at 1 no answer would count", high_open=True)
CONSISTENCY_ROUNDS: Final = Range(0, MAX_STEPS, "they are some of the rounds")
VIEWS: Final = Range(1, 64, "each is encoded once for every image")
KEYS: Final = Range(1, 4096, "there are no more domains in a message")
CONTEXT_TOKENS: Final = Range(1, 1024, "CLIP's prompts have 77 tokens, those of the largest kin some hundred")
WIDTH: Final = Range(1, 65_536, "the width of a transformer; the largest known have 16,384")
TOWER_VALUES: Final = Range(0, 1 << 28, "more values no round can sum")
FEW_SHOT: Final = Range(1, 100_000, "training images a class")
DIRICHLET: Final = Range(1e-6, 1e6, "beyond it the draw is one class each, or the same for all, in float64")
SEED: Final = Range(0, 2**63 - 1, "a number of 63 bits")

# Who and where
INSTITUTIONS: Final = Range(1, 4096, "so many names a message holds")
MINIMUM_PARTICIPANTS: Final = Range(1, 4096, "no session has more institutions")
PORT: Final = Range(1, 65_535, "a TCP port")
PORT_OR_NONE: Final = Range(0, 65_535, "a TCP port; 0 for none, or for a free one")
CONNECTIONS: Final = Range(1, 20_000, "each takes half a megabyte and a file handle")
CERTIFICATE_DAYS: Final = Range(1, 397, "longer ones browsers and TLS libraries refuse", "days")
PROCESSORS: Final = Range(0, 4096, "of one cluster", low_open=True)
GPUS: Final = Range(0, 64, "of one machine")
USUAL_MESSAGE_BYTES: Final = 64 << 20
"""What is taken of a message unless somebody says more: enough for every method but those that train the
image tower, and little enough of memory and time where a party with a certificate sends nonsense."""
LARGEST_MESSAGE_BYTES: Final = 512 << 20
"""More than this no version of the protocol sends in one message: a ViT-B's whole image tower fits."""
MESSAGE_FROM_INSTITUTION: Final = Range(
    1 << 20,
    LARGEST_MESSAGE_BYTES,
    "updates of small models fit into the least; no message is larger",
    "bytes",
)
MESSAGE_FROM_COORDINATOR: Final = Range(
    1 << 16, LARGEST_MESSAGE_BYTES, "with less no session could be offered, and no message is larger", "bytes"
)
IMAGES_AT_ONCE: Final = Range(1, 4096, "they lie in memory together")
FRAME: Final = Range(1, 100_000, "frames of a file are counted from 1")
SLICE: Final = Range(1, 100_000, "slices of a volume are counted from 1")
GREY_CENTER: Final = Range(-1e9, 1e9, "a value of a picture, rescaled: Hounsfield units, counts, shares")
GREY_WIDTH: Final = Range(0, 1e9, "at 0 there would be no grey between black and white", low_open=True)
AXIS: Final = Range(0, 2, "a volume has three axes")
UNUSED_SHARE: Final = Range(0, 1, "a share of the files; 0 refuses where one is not used, 1 never")
CLASSES_NAMED: Final = Range(1, 4096, "no model has more classes")
IMAGE_SIDE: Final = Range(1, 16_384, "no image tower takes larger ones", "pixels")
CHANNEL_MEAN: Final = Range(-255, 255, "of pixels from 0 to 1, or to 255")
CHANNEL_SPREAD: Final = Range(1e-6, 255, "of pixels from 0 to 1, or to 255; they are divided by it")
FILL: Final = Range(0, 255, "a grey value of eight bits")

# Time
TRAINING_TIME: Final = Range(
    0.1, 7 * 86_400, "less no machine answers in; after a week nobody is still waiting", "seconds"
)
PHASE_TIME: Final = Range(
    0.1, 86_400, "less no line answers in; after a day nobody is still waiting", "seconds"
)
RETURN_TIME: Final = Range(
    0, 365 * 86_400, "0 ends a session at once that nobody can go on with; a year is no session", "seconds"
)
ANSWER_TIME: Final = Range(
    0.1, 3600, "less no line answers in; after an hour a connection that hangs is a long time gone", "seconds"
)
LINE_RATE: Final = Range(
    SLOWEST_KBIT_S,
    10_000_000,
    "what moves more slowly counts as a connection that hangs; faster lines there are none",
    "kbit/s",
)
