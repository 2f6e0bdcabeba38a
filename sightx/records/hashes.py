"""Hashes of contents: 32 bytes each, in one array, so that a million of them cost 32 MB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

HASH = np.dtype("S32")
"""One SHA-256. numpy drops zeros at its end where it is made a `bytes`: use `tobytes`."""


class Hashes(Sequence[str]):
    """Hold SHA-256 hashes, in hexadecimal for who asks; `raw` is the array, (N,).

    Where nothing is known there are 32 zero bytes, and "".
    """

    def __init__(self, raw: np.ndarray[Any, Any]) -> None:
        self.raw = raw

    @classmethod
    def unknown(cls, count: int) -> Hashes:
        """Return as many places where nothing is known."""
        return cls(np.zeros(count, HASH))

    @classmethod
    def of(cls, digests: Iterable[bytes]) -> Hashes:
        """Return hashes of 32 bytes each."""
        return cls(np.frombuffer(b"".join(digests), HASH))

    @classmethod
    def from_hex(cls, digests: Iterable[str]) -> Hashes:
        """Return hashes written in hexadecimal; "" is unknown. Raises ValueError for others."""
        found = [bytes.fromhex(digest or "00" * HASH.itemsize) for digest in digests]
        if wrong := next((digest for digest in found if len(digest) != HASH.itemsize), None):
            raise ValueError(f"{wrong.hex()} is no SHA-256")
        return cls.of(found)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.raw)

    def __getitem__(self, index: Any) -> Any:
        """Return one in hexadecimal, or some as they are."""
        if isinstance(index, slice):
            return Hashes(self.raw[index])
        raw = self.raw[index].tobytes().ljust(HASH.itemsize, b"\0")
        return raw.hex() if any(raw) else ""

    def take(self, rows: np.ndarray[Any, Any]) -> Hashes:
        """Return some, in the order of their rows."""
        return Hashes(self.raw[rows])
