# SPDX-License-Identifier: Apache-2.0
"""CRC-64/GO-ISO, the checksum of files in tar-splits (Go ``hash/crc64``, ISO 3309).

The polynomial is x^64 + x^4 + x^3 + x + 1. A table for each byte would take Python a second for
10 MB. Here the data are one large number, and the remainder is found by folding: as the polynomial
has few terms, x^(64*s) is x^(4*s) + x^(3*s) + x^s + 1 for each power of two s, so one step cuts off
the upper half.
"""

from __future__ import annotations

_ONES = (1 << 64) - 1
#: Each byte with its bits in the other order: the CRC begins with the lowest bit.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
#: In bytes. Much larger numbers don't fit into a processor's caches.
_PIECE = 1 << 16


class Crc64:
    """The CRC of the bytes given to ``update`` so far."""

    def __init__(self) -> None:
        self._register = _ONES

    def update(self, data: bytes | memoryview) -> None:
        """Take more data."""
        for start in range(0, len(data), _PIECE):
            piece = bytes(data[start : start + _PIECE]).translate(_MIRRORED)
            bits = 8 * len(piece)
            number = (self._register << bits) ^ (int.from_bytes(piece, "big") << 64)
            self._register = _remainder(number, bits + 64)

    def digest(self) -> bytes:
        """The CRC, big endian, as tar-splits have it."""
        mirrored = self._register.to_bytes(8, "big").translate(_MIRRORED)[::-1]
        return (int.from_bytes(mirrored, "big") ^ _ONES).to_bytes(8, "big")


def _remainder(number: int, bits: int) -> int:
    """``number``, which has ``bits`` bits, modulo the polynomial."""
    while bits > 64:
        # The largest 64 * s below, and at least half of, the bits.
        step = 1 << max(0, ((bits - 1) // 64).bit_length() - 1)
        cut = 64 * step
        high, low = number >> cut, number & ((1 << cut) - 1)
        number = low ^ high ^ (high << step) ^ (high << 3 * step) ^ (high << 4 * step)
        bits = max(cut, bits - cut + 4 * step)
    return number
