"""Find all pairs of hashes that differ in few bits, without comparing every pair.

Multi-index hashing (M. Norouzi, A. Punjani, D. J. Fleet, "Fast exact search in Hamming space with
multi-index hashing", 2012): if the bits are divided into `limit + 1` chunks, two hashes that differ
in at most `limit` bits have one chunk in common. The result is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sightx.audit.perceptual_hash import unpack

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 20  # candidates that are compared at once


def near_pairs(hashes: Array, limit: int, others: Array | None = None) -> Array:
    """Return the pairs of hashes that differ in at most `limit` bits, int64 (P, 2), sorted.

    Args:
        hashes: uint64 (N, W).
        limit: The largest number of different bits.
        others: uint64 (M, W); a pair is then a position in `hashes` and one in `others`. Without
            it, a pair is two positions i < j in `hashes`.
    """
    chunks = max(limit + 1, hashes.shape[1])  # keys of 64 bits at most
    left = unpack(hashes)
    right = left if others is None else unpack(others)
    pairs = [np.empty((0, 2), np.int64)]
    for chunk in range(chunks):
        # Neighbouring coefficients of a transform are correlated: every n-th bit makes a better
        # key than a run of bits.
        keys = _keys(left[:, chunk::chunks])
        other_keys = None if others is None else _keys(right[:, chunk::chunks])
        for first, second in _equal_keys(keys, other_keys):
            is_near = _is_near(hashes, hashes if others is None else others, first, second, limit)
            found = np.stack([first[is_near], second[is_near]], axis=1)
            pairs.append(np.sort(found, axis=1) if others is None else found)
    return np.unique(np.concatenate(pairs), axis=0)


def _keys(bits: Array) -> Array:
    """Return bits (N, B), B up to 64, as one number each: uint16 if they fit, which sorts fast."""
    packed = np.packbits(bits, axis=1)
    width = 2 if packed.shape[1] <= 2 else 8
    keys = np.zeros((len(bits), width), np.uint8)
    keys[:, : packed.shape[1]] = packed
    return keys.view(np.uint16 if width == 2 else np.uint64)[:, 0]


def _equal_keys(keys: Array, others: Array | None) -> Iterator[tuple[Array, Array]]:
    """Yield positions of equal keys, in blocks: of two keys of one array, or of two arrays."""
    order = np.argsort(keys, kind="stable")
    if others is None:
        start = np.arange(1, len(keys) + 1)
        stop = np.searchsorted(keys[order], keys[order], side="right")
        other_order = order
    else:
        other_order = np.argsort(others, kind="stable")
        start, stop = (
            np.searchsorted(others[other_order], keys[order], side=side)
            for side in ("left", "right")
        )
    for which, position in _ranges(start, stop):
        yield order[which], other_order[position]


def _ranges(start: Array, stop: Array) -> Iterator[tuple[Array, Array]]:
    """Yield (i, p) for each p from start[i] up to stop[i], in blocks."""
    counts = stop - start
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, _BLOCK):
        number = np.arange(begin, min(begin + _BLOCK, total))
        which = np.searchsorted(ends, number, side="right")
        yield which, start[which] + number - (ends - counts)[which]


def _is_near(left: Array, right: Array, first: Array, second: Array, limit: int) -> Array:
    """Return whether the hashes of each pair of positions differ in at most `limit` bits."""
    # The last word, of high frequencies, differs in most unrelated images.
    last = np.bitwise_count(left[first, -1] ^ right[second, -1]) <= limit
    at = np.flatnonzero(last)
    is_near = np.zeros(len(first), bool)
    bits = np.bitwise_count(left[first[at]] ^ right[second[at]])
    is_near[at] = bits.sum(axis=1, dtype=np.int64) <= limit
    return is_near


def hamming(left: Array, right: Array) -> Array:
    """Return the number of different bits of hashes (N, W) and (N, W), int64 (N,)."""
    bits: Array = np.bitwise_count(left ^ right).sum(axis=-1, dtype=np.int64)
    return bits
