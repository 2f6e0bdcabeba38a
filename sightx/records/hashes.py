"""SHA-256 hashes of contents, 32 bytes each in one array: a million of them take 32 MB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

HASH = np.dtype("S32")
"""One SHA-256. Converting an element to `bytes` drops trailing zeros: use `tobytes`."""


class Hashes(Sequence[str]):
    """A sequence of SHA-256 hashes, hexadecimal when indexed; "" is an unknown hash.

    `raw` is the array, (N,) of `HASH`, with 32 zero bytes for an unknown hash.
    """

    def __init__(self, raw: np.ndarray[Any, Any]) -> None:
        self.raw = raw

    @classmethod
    def unknown(cls, count: int) -> Hashes:
        """Return `count` unknown hashes."""
        return cls(np.zeros(count, HASH))

    @classmethod
    def from_bytes(cls, digests: Iterable[bytes]) -> Hashes:
        """Return hashes from 32 bytes each."""
        return cls(np.frombuffer(b"".join(digests), HASH))

    @classmethod
    def from_hex(cls, digests: Iterable[str]) -> Hashes:
        """Return hashes from hexadecimal; "" is unknown. Raises ValueError for anything else."""
        raw = [bytes.fromhex(digest or "00" * HASH.itemsize) for digest in digests]
        if wrong := next((digest for digest in raw if len(digest) != HASH.itemsize), None):
            raise ValueError(f"{wrong.hex()} is not a SHA-256")
        return cls.from_bytes(raw)

    def __len__(self) -> int:
        """Return the number of hashes."""
        return len(self.raw)

    def __getitem__(self, index: Any) -> Any:
        """Return one hash in hexadecimal, or `Hashes` for a slice."""
        if isinstance(index, slice):
            return Hashes(self.raw[index])
        raw = self.raw[index].tobytes().ljust(HASH.itemsize, b"\0")
        return raw.hex() if any(raw) else ""

    def take(self, rows: np.ndarray[Any, Any]) -> Hashes:
        """Return the hashes of some rows, in their order."""
        return Hashes(self.raw[rows])
