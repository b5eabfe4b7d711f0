"""`shuffled_index`: a shuffle of any length that needs no memory.

A Feistel network of four rounds permutes the numbers of an even count of bits; what falls outside
is permuted again until it falls inside (cycle walking: Black and Rogaway, 2002).
"""

from __future__ import annotations

import hashlib

_ROUNDS = 4


def shuffled_index(index: int, count: int, key: str) -> int:
    """Where the element at `index` of `count` elements goes in the shuffle of that key."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_mix(right, number, key) & mask)
        index = left << half | right
        if index < count:
            return index


def _mix(value: int, number: int, key: str) -> int:
    digest = hashlib.blake2b(f"{key}\x1f{number}\x1f{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
