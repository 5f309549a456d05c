"""Random changes to inputs, for a Python that has no atheris; they know nothing of which code was reached."""

from __future__ import annotations

import random

_NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)


def changed(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of `seeds` with some bytes changed, taken out, doubled, or taken from another."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0:
                data[at : at + length] = chance.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length] * chance.choice((1, 2, 100, 10_000))
            case 3:
                number = chance.choice(_NUMBERS)
                width = 8 if number >> 32 else 4 if number >> 16 else 2 if number >> 8 else 1
                data[at : at + width] = number.to_bytes(width, "little")
            case 4:
                other = chance.choice(seeds)
                begin = chance.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + length * 8]
            case 5:
                if at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
    return bytes(data[: 1 << 20])
