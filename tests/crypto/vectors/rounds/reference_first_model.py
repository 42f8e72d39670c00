"""The reference's first model, from SPEC.md, section 10.1: parts of each method, and normal numbers.

The tables of the ziggurat are computed with 60 digits here, not taken from a library.
"""

import base64
import math
import struct
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

from tests.crypto.vectors import reference as ref

WORD = 2**32
STRIPS = 256
RIGHT = Decimal("3.6541528853610088")


def parts_of(method: str, m: int, n: int, w: int, d: int, k: int, tower: int, *, one_each: bool) -> list[Any]:
    """Return (number of values, σ) of each part; the prompt's is the first, where there is one."""
    prompt, hidden = (m * n * w if one_each else n * w), max(1, d // 16)
    square = [(d * d, d**-0.5), (d, 0.0)]
    return {
        "fedapt": [(prompt, 0.02), (k * d, 0.02)],
        "promptfl": [(prompt, 0.02)],
        "local": [(prompt, 0.02)],
        "cocoop": [(n * w, 0.02), (hidden * d, d**-0.5), (hidden, 0.0), (w * hidden, 0.02), (w, 0.0)],
        "fedclip": [*square, *square],
        "linear-probe": [(m * d, 0.0)],
        "fedavg": [(tower, 0.0)],
        "fedprox": [(tower, 0.0)],
    }[method]


def first_model(
    method: str,
    *,
    classes: int = 2,
    context_tokens: int = 1,
    text_width: int = 1,
    feature_size: int = 1,
    keys: int = 1,
    class_specific: bool = True,
    tower_values: int = 0,
    seed: int = 0,
    words: str | None = None,
) -> dict[str, Any]:
    sizes = (classes, context_tokens, text_width, feature_size, keys, tower_values)
    stream, values = Stream(seed), []
    for count, deviation in parts_of(method, *sizes, one_each=class_specific):
        values += [deviation * stream.normal() if deviation else 0.0 for _ in range(count)]
    if words is not None:
        fixed = [value for (value,) in struct.iter_unpack("<f", base64.b64decode(words, validate=True))]
        contexts = classes if class_specific and method != "cocoop" else 1
        for number in range(contexts):
            at = number * context_tokens * text_width
            values[at : at + len(fixed)] = fixed
    data = struct.pack(f"<{len(values)}f", *values)
    return {
        "values": len(values),
        "begins": data[:32],
        "ends": data[-8:],
        "id": ref.digest("model", [data]),
    }


@cache
def tables() -> tuple[list[float], list[float], list[int]]:
    """Return w, f and k of each strip."""
    with localcontext() as context:
        context.prec = 60

        def f(x: Decimal) -> Decimal:
            return (-x * x / 2).exp()

        fraction = RIGHT  # of the tail's area f(R) / (R + 1 / (R + 2 / (R + …)))
        for number in range(400, 0, -1):
            fraction = RIGHT + number / fraction
        area = RIGHT * f(RIGHT) + f(RIGHT) / fraction
        x = [Decimal(0)] * (STRIPS - 1) + [RIGHT]
        for i in range(STRIPS - 2, 0, -1):
            x[i] = (-2 * (area / x[i + 1] + f(x[i + 1])).ln()).sqrt()
        widest = area / f(RIGHT)
        widths = [float(each / 2**52) for each in (widest, *x[1:])]
        inner = [RIGHT / widest, *(x[i - 1] / x[i] for i in range(1, STRIPS))]
        return widths, [float(f(each)) for each in x], [int(each * 2**52) for each in inner]


class Stream:
    """Standard normal numbers from a seed."""

    def __init__(self, seed: int) -> None:
        g = [low + WORD * high for low, high in zip(*[iter(spread(seed))] * 2, strict=True)]
        self._add = (2 * (g[2] * 2**64 + g[3]) + 1) % 2**128
        self._state = self._add + g[0] * 2**64 + g[1]
        self._step()

    def _step(self) -> None:
        self._state = (self._state * 0x2360ED051FC65DA44385DF649FCCF645 + self._add) % 2**128

    def word(self) -> int:
        self._step()
        mixed, turn = (self._state >> 64 ^ self._state) % 2**64, self._state >> 122
        return (mixed >> turn | mixed << (64 - turn)) % 2**64

    def unit(self) -> float:
        return (self.word() >> 11) * 2.0**-53

    def normal(self) -> float:
        w, f, k = tables()
        while True:
            word = self.word()
            i, negative, m = word % 256, word >> 8 & 1, word >> 9 & 2**52 - 1
            z = -m * w[i] if negative else m * w[i]
            if m < k[i]:
                return z
            if i == 0:
                return self._tail(m)
            if (f[i - 1] - f[i]) * self.unit() + f[i] < math.exp(-0.5 * z * z):
                return z

    def _tail(self, m: int) -> float:
        while True:
            x, y = -math.log1p(-self.unit()) / float(RIGHT), -math.log1p(-self.unit())
            if 2 * y > x * x:
                return -(float(RIGHT) + x) if m >> 8 & 1 else float(RIGHT) + x


def spread(seed: int) -> list[int]:
    """Return eight words of 32 bits."""
    entropy = [seed % WORD, seed // WORD] if seed >= WORD else [seed]
    state = 0x43B0D7E5

    def hashed(x: int) -> int:
        nonlocal state
        x ^= state
        state = state * 0x931E8875 % WORD
        x = x * state % WORD
        return x ^ x >> 16

    pool = [hashed(entropy[i] if i < len(entropy) else 0) for i in range(4)]
    for i in range(4):
        for j in range(4):
            if i != j:
                r = (0xCA01F9DD * pool[j] - 0x4973F715 * hashed(pool[i])) % WORD
                pool[j] = r ^ r >> 16
    state, words = 0x8B51F9DD, []
    for i in range(8):
        x = pool[i % 4] ^ state
        state = state * 0x58F38DED % WORD
        x = x * state % WORD
        words.append(x ^ x >> 16)
    return words
