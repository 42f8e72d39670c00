"""Finds a method by its name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fedapt_secure.learning.methods.base import Method
from fedapt_secure.learning.methods.cocoop import CoCoOp
from fedapt_secure.learning.methods.fedclip import FedClip
from fedapt_secure.learning.methods.image_tower import ImageTower
from fedapt_secure.learning.methods.linear_probe import LinearProbe
from fedapt_secure.learning.methods.local import Local
from fedapt_secure.learning.methods.prompts import FedApt, PromptFl
from fedapt_secure.learning.methods.zero_shot import ZeroShot
from fedapt_secure.protocol import methods as names

_METHODS: Final[Mapping[str, Callable[[], Method]]] = MappingProxyType(
    {
        names.FEDAPT: FedApt,
        names.PROMPTFL: PromptFl,
        names.COCOOP: CoCoOp,
        names.FEDCLIP: FedClip,
        names.LINEAR_PROBE: LinearProbe,
        names.FEDAVG: ImageTower,
        names.FEDPROX: ImageTower,
        names.LOCAL: Local,
        names.ZERO_SHOT: ZeroShot,
    }
)


def method_of(name: str) -> Method:
    """Return a method.

    Raises:
        InvalidInput: If there is none of that name.
    """
    names.method_facts(name)
    return _METHODS[name]()
