"""Which methods there are, and what each trains: names and sizes alone, so the coordinator needs no torch.

How a method trains and predicts is in `fedapt_secure.learning.methods`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Final, Protocol

from fedapt_crypto.errors import InvalidInput

FEDAPT: Final = "fedapt"
PROMPTFL: Final = "promptfl"
COCOOP: Final = "cocoop"
FEDCLIP: Final = "fedclip"
LINEAR_PROBE: Final = "linear-probe"
FEDAVG: Final = "fedavg"
FEDPROX: Final = "fedprox"
LOCAL: Final = "local"
ZERO_SHOT: Final = "zero-shot"

PROMPT_STD: Final = 0.02
"""Standard deviation of an initial meta prompt, as in FedAPT's reference code, and of an adaptive network,
which is uniform in ±1/√D there (docs/paper.md)."""
BOTTLENECK: Final = 16
"""CoCoOp's meta-net is this many times narrower than the image feature (Zhou et al. 2022b, section 3.2)."""


@dataclass(frozen=True)
class Part:
    """One trained tensor.

    Attributes:
        name: What bundles call it.
        shape: Its sizes.
        initial_std: Standard deviation of its first values, N(0, std²); 0 for zeros.
        is_context: Whether it stands in prompts, (..., n_ctx, W), so that it may start from words.
    """

    name: str
    shape: tuple[int, ...]
    initial_std: float
    is_context: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


class Sizes(Protocol):
    """What the sizes of trained tensors follow from; see `parameters.ParameterShape`."""

    @property
    def classes(self) -> int:
        """M."""

    @property
    def context_tokens(self) -> int:
        """n_ctx."""

    @property
    def text_width(self) -> int:
        """W."""

    @property
    def feature_size(self) -> int:
        """D."""

    @property
    def domains(self) -> int:
        """K."""

    @property
    def tower_values(self) -> int:
        """Number of values of the image tower."""

    @property
    def meta_prompt(self) -> tuple[int, ...]:
        """(M, n_ctx, W) or (n_ctx, W)."""


def _on_text_features(sizes: Sizes) -> int:
    return sizes.feature_size * sizes.classes**2


@dataclass(frozen=True)
class MethodFacts:
    """What all parties know of a method.

    Attributes:
        name: As it is chosen.
        title: As tables call it.
        parts: Its trained tensors, in the order in which they travel.
        uses_keys: Whether domain keys modulate prompts, so that the bundle carries them.
        federated: Whether institutions train it together, so that a session of several can be about it.
        never_private: Why it cannot be trained under DP; ``None`` where it can.
        never_unsupervised: Why it cannot be trained without labels; ``None`` where it can.
        class_specific: What it needs, where it has no choice between contexts a class and a shared one.
        noisy_values: On how many values, as `prior_weight` counts them, DP noise lies: D·M² where it is on
            the text features of M classes, else the number of trained values.
        learning_rate: Step size where none is chosen; found on the shipped digits, see docs/tuning.md.
    """

    name: str
    title: str
    parts: Callable[[Sizes], tuple[Part, ...]]
    uses_keys: bool = False
    federated: bool = True
    never_private: str | None = None
    never_unsupervised: str | None = None
    class_specific: bool | None = None
    noisy_values: Callable[[Sizes], int] = _on_text_features
    learning_rate: float = 3.0

    @property
    def keeps_prior(self) -> bool:
        """Whether a finished model can keep some of the untuned CLIP; see `learning.methods.prior`."""
        return self.never_private is None and self.name != ZERO_SHOT

    @property
    def learns_context(self) -> bool:
        """Whether it learns vectors that stand in prompts."""
        return self.name in (FEDAPT, PROMPTFL, COCOOP, LOCAL)


def _fedapt(sizes: Sizes) -> tuple[Part, ...]:
    network = (sizes.domains, sizes.feature_size)
    return (
        Part("meta_prompt", sizes.meta_prompt, PROMPT_STD, is_context=True),
        Part("adaptive_network", network, PROMPT_STD),
    )


def _promptfl(sizes: Sizes) -> tuple[Part, ...]:
    return (Part("context", sizes.meta_prompt, PROMPT_STD, is_context=True),)


def _cocoop(sizes: Sizes) -> tuple[Part, ...]:
    hidden = max(1, sizes.feature_size // BOTTLENECK)
    return (
        Part("context", (sizes.context_tokens, sizes.text_width), PROMPT_STD, is_context=True),
        Part("meta_net_in", (hidden, sizes.feature_size), sizes.feature_size**-0.5),
        Part("meta_net_in_bias", (hidden,), 0.0),
        Part("meta_net_out", (sizes.text_width, hidden), PROMPT_STD),
        Part("meta_net_out_bias", (sizes.text_width,), 0.0),
    )


def _fedclip(sizes: Sizes) -> tuple[Part, ...]:
    square = (sizes.feature_size, sizes.feature_size)
    return (
        Part("adapter_in", square, sizes.feature_size**-0.5),
        Part("adapter_in_bias", square[:1], 0.0),
        Part("adapter_out", square, sizes.feature_size**-0.5),
        Part("adapter_out_bias", square[:1], 0.0),
    )


def _linear_probe(sizes: Sizes) -> tuple[Part, ...]:
    return (Part("classifier", (sizes.classes, sizes.feature_size), 0.0),)


def _image_tower(sizes: Sizes) -> tuple[Part, ...]:
    return (Part("image_tower_change", (sizes.tower_values,), 0.0),)


def _nothing(sizes: Sizes) -> tuple[Part, ...]:
    del sizes
    return ()


def _on_all_of(parts: Callable[[Sizes], tuple[Part, ...]]) -> Callable[[Sizes], int]:
    return lambda sizes: sum(part.size for part in parts(sizes))


_WHOLE_TOWER: Final = (
    "it trains the whole image tower, and noise on that many values leaves nothing of the model at any useful"
    " ε; per-image gradients of it would not fit into memory either"
)
_NEEDS_PIXELS: Final = (
    "it trains the image tower on the images themselves, and their augmented views are kept as features only"
)
METHODS: Final[Mapping[str, MethodFacts]] = MappingProxyType(
    {
        facts.name: facts
        for facts in (
            MethodFacts(FEDAPT, "FedAPT", _fedapt, uses_keys=True),
            MethodFacts(PROMPTFL, "PromptFL", _promptfl),
            MethodFacts(
                COCOOP,
                "CoCoOp",
                _cocoop,
                class_specific=False,
                noisy_values=_on_all_of(_cocoop),
            ),
            MethodFacts(
                FEDCLIP,
                "FedCLIP",
                _fedclip,
                noisy_values=_on_all_of(_fedclip),
            ),
            MethodFacts(LINEAR_PROBE, "linear probe", _linear_probe),
            MethodFacts(
                FEDAVG,
                "FedAvg",
                _image_tower,
                never_private=_WHOLE_TOWER,
                never_unsupervised=_NEEDS_PIXELS,
                learning_rate=0.01,
            ),
            MethodFacts(
                FEDPROX,
                "FedProx",
                _image_tower,
                never_private=_WHOLE_TOWER,
                never_unsupervised=_NEEDS_PIXELS,
                learning_rate=0.01,
            ),
            MethodFacts(
                LOCAL,
                "local",
                _promptfl,
                federated=False,
                never_unsupervised="by itself an institution has no rounds that the two stages could divide",
            ),
            MethodFacts(ZERO_SHOT, "zero-shot", _nothing, federated=False),
        )
    }
)


def method_facts(name: str) -> MethodFacts:
    """Return what is known of a method; raises `InvalidInput` where there is none of that name."""
    if name not in METHODS:
        raise InvalidInput(f"there is no method {name!r}; choose {', '.join(METHODS)}")
    return METHODS[name]
