"""What the towers compute on, in which precision, and how much goes onto it at once.

Precision is a matter of the frozen towers alone. Clipping, summing and the noise of a private step stay in
float32, float64 and integers whatever is chosen here (see `mechanism`): to them, features and text features
are inputs, and their sensitivity bound holds for any inputs.
"""

import contextlib
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput

Precision = Literal["float32", "bfloat16"]
"""What the matrix products of a frozen tower are computed in."""
FULL: Final[Precision] = "float32"
REDUCED: Final[Precision] = "bfloat16"
DEVICES: Final = ("auto", "cpu", "cuda")
PRECISIONS: Final = ("auto", *get_args(Precision))

CPU: Final = torch.device("cpu")
_BFLOAT16_CAPABILITY: Final = (8, 0)  # Ampere; earlier GPUs only imitate it, slower than float32
_CPU_IMAGES: Final = 64
_MAX_IMAGES: Final = 256  # more fill no GPU any better, and a kill costs more work
_BYTES_PER_IMAGE: Final = (
    128 << 20
)  # of the card's memory: half of it is for activations, of any model in use
_FEATURE_SHARE: Final = 4  # features may take a quarter of what is free: the towers need the rest
_GRADIENT_SHARE: Final = 32
_MIN_GRADIENT_BYTES: Final = 256 << 20
_MAX_GRADIENT_BYTES: Final = 4 << 30


def resolve_device(wish: str) -> torch.device:
    """Return the device for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        InvalidInput: If ``wish`` is none of them, or CUDA is asked for and absent.
    """
    if wish not in DEVICES:
        raise InvalidInput(f"the device is auto, cpu or cuda, not {wish}")
    if wish == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("no CUDA device is available; choose the device auto or cpu")
    on_gpu = wish != "cpu" and torch.cuda.is_available()
    if on_gpu:
        without_tf32()
    return torch.device("cuda" if on_gpu else "cpu")


def without_tf32() -> None:
    """Let float32 be float32 on GPUs.

    TF32 keeps 10 bits of a float32's 23: features and gradients would not be those of a CPU.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def resolve_precision(wish: str, device: torch.device) -> Precision:
    """Return the precision for ``"auto"``, ``"float32"`` or ``"bfloat16"`` on a device.

    ``auto`` is bfloat16 on a GPU that computes in it, and float32 elsewhere. A CPU does bfloat16 if asked
    to; most are slower at it.

    Raises:
        InvalidInput: If ``wish`` is none of them, or the GPU has no bfloat16.
    """
    if wish not in PRECISIONS:
        raise InvalidInput(f"the precision is {', '.join(PRECISIONS)}, not {wish}")
    able = device.type != "cuda" or torch.cuda.get_device_capability(device) >= _BFLOAT16_CAPABILITY
    if wish == REDUCED and not able:
        raise InvalidInput("this GPU has no bfloat16; choose the precision auto or float32")
    if wish == "auto":
        return REDUCED if able and device.type == "cuda" else FULL
    return REDUCED if wish == REDUCED else FULL


def in_precision(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context in which matrix products are computed so, whatever holds around it.

    In bfloat16 norms, softmax and the sums along the layers stay in float32 (torch.autocast).
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == REDUCED)


def describe(device: torch.device) -> str:
    """Return a device's name for people: ``"cpu"``, or the GPU's own."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def images_at_once(device: torch.device) -> int:
    """Return how many images go through an image tower at once where nobody says otherwise."""
    if device.type != "cuda":
        return _CPU_IMAGES
    return max(1, min(_MAX_IMAGES, _total_memory(device) // _BYTES_PER_IMAGE))


def gradient_bytes(device: torch.device) -> int:
    """Return how much memory the per-record gradients of one chunk may take.

    Follows from the device alone and not from what is free: a chunk's size moves the last bit of a sum.
    """
    if device.type != "cuda":
        return _MIN_GRADIENT_BYTES
    share = _total_memory(device) // _GRADIENT_SHARE
    return min(max(share, _MIN_GRADIENT_BYTES), _MAX_GRADIENT_BYTES)


def resident(values: Tensor, device: torch.device, free_bytes: int | None = None) -> Tensor:
    """Return values on the device where they take at most a quarter of its free memory, else as they are.

    Args:
        values: On the CPU; may be a memory map.
        device: Where they are to be used.
        free_bytes: Instead of what the GPU says is free.
    """
    if device.type != "cuda":
        return values
    free = torch.cuda.mem_get_info(device)[0] if free_bytes is None else free_bytes
    return values.to(device) if values.nbytes <= free // _FEATURE_SHARE else values


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return values of the CPU on the device, without waiting for the work that is queued there.

    A copy from ordinary memory makes the CPU wait until the GPU has done everything before it; one from
    pinned memory is queued like any other work.
    """
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def _total_memory(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).total_memory)
