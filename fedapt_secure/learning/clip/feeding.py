"""Batches of images on their way through an image tower, with the copying hidden behind the computing.

On a GPU pixels are put together in pinned memory, which the GPU reads by itself, and results are fetched one
batch late: while the GPU works on a batch, the CPU prepares the next. The features are those of the plain
way, batch by batch; only the time at which they come differs. On a CPU nothing is gained by that, and nothing
is done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

_LATE: Final = 1

Encode = Callable[[Tensor], Tensor]
"""Features (B, D) of pixels (B, 3, H, W); takes pixels of the CPU, gives features of the device."""
_Tag = TypeVar("_Tag")


@dataclass(frozen=True)
class _OnItsWay(Generic[_Tag]):
    tag: _Tag
    features: Tensor  # on the CPU; filled when `done` has passed
    done: torch.cuda.Event | None


class Feed:
    """Encodes batches in order.

    Args:
        encode: The image tower.
        device: What it computes on.
        feature_size: D.
        late: How many batches a result may lag behind; by default 1 on a GPU, 0 elsewhere.
    """

    def __init__(
        self, encode: Encode, device: torch.device, feature_size: int, late: int | None = None
    ) -> None:
        self._encode = encode
        self._feature_size = feature_size
        self._pinned = device.type == "cuda"
        self._late = late if late is not None else _LATE if self._pinned else 0
        self._buffers: list[Tensor | None] = [None] * (self._late + 1)

    def __call__(self, batches: Iterable[tuple[_Tag, Sequence[Tensor]]]) -> Iterator[tuple[_Tag, Tensor]]:
        """Yield each batch's tag and features (B, D), float32, on the CPU.

        Args:
            batches: A tag, and the pixels (3, H, W) of B images; B may be 0.
        """
        under_way: deque[_OnItsWay[_Tag]] = deque()
        for number, (tag, pixels) in enumerate(batches):
            under_way.append(self._send(number, tag, pixels))
            if len(under_way) > self._late:
                yield self._receive(under_way.popleft())
        while under_way:
            yield self._receive(under_way.popleft())

    @torch.no_grad()
    def _send(self, number: int, tag: _Tag, pixels: Sequence[Tensor]) -> _OnItsWay[_Tag]:
        if not pixels:
            return _OnItsWay(tag, torch.zeros(0, self._feature_size), None)
        if not self._pinned:
            return _OnItsWay(tag, self._encode(torch.stack(list(pixels))).float().cpu(), None)
        features = self._encode(self._together(number, pixels)).float()
        fetched = torch.empty(features.shape, pin_memory=True).copy_(features, non_blocking=True)
        done = torch.cuda.current_stream(features.device).record_event()
        return _OnItsWay(tag, fetched, done)

    def _together(self, number: int, pixels: Sequence[Tensor]) -> Tensor:
        # A buffer is filled again only after the batch that was in it has been received: there is one more
        # of them than batches under way.
        place = number % len(self._buffers)
        buffer = self._buffers[place]
        if buffer is None or len(buffer) < len(pixels) or buffer.shape[1:] != pixels[0].shape:
            buffer = torch.empty((len(pixels), *pixels[0].shape), pin_memory=True)
            self._buffers[place] = buffer
        return torch.stack(list(pixels), out=buffer[: len(pixels)])

    @staticmethod
    def _receive(one: _OnItsWay[_Tag]) -> tuple[_Tag, Tensor]:
        if one.done is not None:
            one.done.synchronize()
        return one.tag, one.features
