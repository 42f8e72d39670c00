"""The group of Ed25519 in Python integers (RFC 8032, 5.1), to make signatures that nobody would make."""

import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def times(factor: int, point: Point) -> Point:
    result = NEUTRAL
    for bit in f"{factor:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def with_y(y: int, *, odd: bool = False) -> Point:
    """Return the point with that y and an even or odd x; raises `ValueError` where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("no point has this y")
    return (P - x if (x % 2 == 1) != odd and x else x), y


def pack(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = with_y(4 * pow(5, -1, P) % P)
EIGHTH = with_y(0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7)
"""A point of order 8."""


def challenge(nonce_point: bytes, public_key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(nonce_point + public_key + message).digest(), "little") % ORDER


def sign(
    scalar: int, message: bytes, *, key_torsion: Point = NEUTRAL, nonce_torsion: Point = NEUTRAL
) -> tuple[bytes, bytes]:
    """Return a public key and a signature; with torsion only eight times the equation holds."""
    nonce = int.from_bytes(hashlib.sha512(b"nonce" + message).digest(), "little") % ORDER
    public_key = pack(add(times(scalar, BASE), key_torsion))
    nonce_point = pack(add(times(nonce, BASE), nonce_torsion))
    s = (nonce + challenge(nonce_point, public_key, message) * scalar) % ORDER
    return public_key, nonce_point + s.to_bytes(32, "little")
