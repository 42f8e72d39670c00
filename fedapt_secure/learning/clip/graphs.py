"""The text tower, there and back, recorded once on a GPU as CUDA graphs and replayed at every step.

A step's text tower is thousands of small kernels, and starting them one by one takes longer than they do. A
graph starts them all at once; recording one takes about as long as a few steps, and needs no compiler. The
numbers are those of the plain way: the same kernels run on the same values.

A recording works on memory of its own, so one user has it at a time: `replayed` holds a lock until the
gradient has been taken, and what leaves is copied. All institutions of a process that train on the same
prompts share one; on one GPU they would wait for each other anyway. On a CPU, and wherever recording fails or
takes too much memory, prompts are encoded the plain way.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedapt_secure.learning.clip.text import PromptedText

MOST_RECORDINGS: Final = 3
"""Recordings that are kept in a process; the one that was not used for longest goes first."""
MEMORY_SHARE: Final = 8
"""A recording may keep this part of the card's memory: activations that others could use in between."""
_WARM_UP: Final = 2  # passes before recording, in which libraries choose their kernels

_log = logging.getLogger(__name__)

Encode = Callable[[Tensor], Tensor]
"""What `PromptedText.encode` does."""
_Key = tuple[object, ...]


@contextmanager
def replayed(text: PromptedText, contexts: Tensor) -> Iterator[Encode]:
    """Give a function that encodes prompts as ``text.encode`` does, faster where there is a GPU.

    Take the gradient of what it returns within the context, and before it is called again.

    Args:
        text: Prompts to train on.
        contexts: Such as will be encoded: shape and type count.
    """
    if contexts.device.type != "cuda":
        yield text.encode
        return
    shared = _shared(text, contexts)
    with shared.lock:
        yield shared.encode


def forget() -> None:
    """Drop all recordings, and with them their memory."""
    with _choosing:
        _kept.clear()


def kept_bytes() -> int:
    """Return how much memory the recordings that are there keep."""
    with _choosing:
        return sum(shared.nbytes for shared in _kept.values())


class Recording:
    """One text tower there and back, on one shape.

    Args:
        encode: What to record; differentiable, without decisions that depend on values.
        contexts: Such as will be encoded, on the GPU.

    Raises:
        RuntimeError: If it cannot be recorded.
    """

    def __init__(self, encode: Encode, contexts: Tensor) -> None:
        device = contexts.device
        self._inputs = contexts.detach().clone().requires_grad_()
        self._there, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._pool = torch.cuda.graph_pool_handle()
        self._turn = 0
        stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        outside = torch.cuda.current_stream(device)
        stream.wait_stream(outside)
        # Backward passes in this thread: recording must see what is launched, and only that. Other threads go
        # on meanwhile, so what they ask of the GPU must not count ("thread_local").
        with (
            torch.cuda.stream(stream),
            torch.autograd.set_multithreading_enabled(False),
            torch.enable_grad(),
        ):
            for _ in range(_WARM_UP):
                outputs = encode(self._inputs)
                torch.autograd.grad(outputs, self._inputs, torch.ones_like(outputs))
            del outputs
            how: dict[str, Any] = {
                "pool": self._pool,
                "stream": stream,
                "capture_error_mode": "thread_local",
            }
            with torch.cuda.graph(self._there, **how):
                outputs = encode(self._inputs)
            self._towards = torch.ones_like(outputs)
            with torch.cuda.graph(self._back, **how):
                (pulled,) = torch.autograd.grad(outputs, self._inputs, self._towards)
        outside.wait_stream(stream)
        self._outputs, self._pulled = outputs.detach(), pulled.detach()

    def __call__(self, contexts: Tensor) -> Tensor:
        """Return the text features of contexts; differentiable, once, before the next call."""
        found: Tensor = _Replay.apply(contexts, self)
        return found

    @property
    def nbytes(self) -> int:
        """Memory that it keeps."""
        segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        own = [one["total_size"] for one in segments if tuple(one["segment_pool_id"]) == tuple(self._pool)]
        return int(sum(own))

    @torch.no_grad()
    def there(self, contexts: Tensor) -> tuple[int, Tensor]:
        """Return the number of this turn and a copy of the text features."""
        self._turn += 1
        self._inputs.copy_(contexts)
        self._there.replay()
        return self._turn, self._outputs.clone()

    @torch.no_grad()
    def back(self, turn: int, towards: Tensor) -> Tensor:
        """Return a copy of the gradient for the contexts of a turn.

        Raises:
            RuntimeError: If others were encoded since: what the way back reads is theirs.
        """
        if turn != self._turn:
            raise RuntimeError("other prompts were encoded before the gradient of these was taken")
        self._towards.copy_(towards)
        self._back.replay()
        return self._pulled.clone()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, contexts: Tensor, recording: Recording) -> Tensor:
        ctx.recording = recording
        ctx.turn, features = recording.there(contexts)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor, None]:
        return ctx.recording.back(ctx.turn, towards), None


class _Shared:
    """A recording that is made at first use, or the plain way where it cannot be."""

    def __init__(self, text: PromptedText) -> None:
        self.lock = threading.Lock()
        self._text = text
        self._recording: Recording | None = None
        self._tried = False

    @property
    def nbytes(self) -> int:
        return 0 if self._recording is None else self._recording.nbytes

    def encode(self, contexts: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and contexts.requires_grad):
            return self._text.encode(contexts)  # nobody will go back
        if not self._tried:
            self._tried = True
            self._recording = _record(self._text, contexts)
        return (self._recording or self._text.encode)(contexts)


_choosing = threading.Lock()
_making = threading.Lock()
_kept: "OrderedDict[_Key, _Shared]" = OrderedDict()


def _shared(text: PromptedText, contexts: Tensor) -> _Shared:
    key: _Key = (text.layout, contexts.shape, contexts.dtype, contexts.device)
    with _choosing:
        found = _kept.setdefault(key, _Shared(text))
        _kept.move_to_end(key)
        while len(_kept) > MOST_RECORDINGS:
            _kept.popitem(last=False)
        return found


def _record(text: PromptedText, contexts: Tensor) -> Recording | None:
    """Return a recording, or log why there is none and prompts are encoded the plain way."""
    name = text.backbone.name
    if not text.backbone.text_tower.has_known_layers:  # who knows what another's layers decide by values
        _log.warning("the text tower of %s is not recorded as a CUDA graph: its layers are not known", name)
        return None
    try:
        with _making:
            recording = Recording(text.encode, contexts)
    except RuntimeError as error:  # of CUDA, out of memory among them: the plain way does without
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _log.warning("the text tower of %s is not recorded as a CUDA graph: %s", name, reason)
        torch.cuda.empty_cache()
        return None
    share = torch.cuda.get_device_properties(contexts.device).total_memory // MEMORY_SHARE
    if recording.nbytes > share:
        size = recording.nbytes >> 20
        _log.warning("the text tower of %s is not kept as a CUDA graph: it would keep %d MiB", name, size)
        return None
    return recording
