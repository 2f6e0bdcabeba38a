"""Find copies of images: equal files, equal pixels, and near copies in any orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightx.audit.image_properties import ImageProperties
from sightx.audit.near_pairs import hamming, near_pairs
from sightx.audit.perceptual_hash import ORIENTATIONS, oriented, oriented_hashes

Array = np.ndarray[Any, Any]

LIKELY_BITS, LIKELY_CORRELATION = 20, 0.98
CERTAIN_BITS, CERTAIN_CORRELATION = 8, 0.995
"""Limits of near copies: among 1.44 million pairs of unrelated photographs of the retina the
nearest differ in 29 bits; copies that are re-encoded, halved or noisy differ in up to 13."""
_REFERENCE_IMAGES = 256  # whose mean is subtracted before thumbnails are compared
_FLAT = 1.0  # standard deviation of a thumbnail in which nothing can be compared
_FLAT_DIFFERENCE = 2.0  # of the means of two such thumbnails of one image

Thumbnails = Callable[[Array], Array]
"""Returns the grey thumbnails of rows, float32 (N, H, W)."""


@dataclass(frozen=True)
class Copies:
    """Pairs of copies: `pairs` (P, 2) are positions in the table, the first one lower.

    Attributes:
        pairs: Every copy with the first image that it is a copy of, or likely to be.
        kind: "exact" (equal bytes or pixels), "certain" or "likely", (P,).
        notes: What relates the two images, such as "mirrored", (P,).
    """

    pairs: Array
    kind: Array
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def where(self, chosen: Array) -> Copies:
        """Return some of the pairs, bool (P,)."""
        notes = tuple(note for note, keep in zip(self.notes, chosen, strict=True) if keep)
        return Copies(self.pairs[chosen], self.kind[chosen], notes)

    def differ(self, values: Array) -> Array:
        """Return which pairs have different values of a column (N,), bool (P,)."""
        differ: Array = values[self.pairs[:, 0]] != values[self.pairs[:, 1]]
        return differ


def find_copies(images: ImageProperties, rows: Array, thumbnails: Thumbnails) -> Copies:
    """Return all copies among some rows, as far as their images could be read."""
    known = rows[images.is_known[rows]]
    exact = _links(known, images.contents.raw[known])
    representatives = np.setdiff1d(known, exact[:, 1])
    same_pixels = _links(representatives, images.frame["pixels"].to_numpy()[representatives])
    representatives = np.setdiff1d(representatives, same_pixels[:, 1])
    near = _near_copies(representatives, images.hashes, thumbnails)
    return Copies(
        np.concatenate([exact, same_pixels, near.pairs]),
        np.concatenate([np.full(len(exact) + len(same_pixels), "exact"), near.kind]),
        ("equal files",) * len(exact) + ("equal pixels",) * len(same_pixels) + near.notes,
    )


def _links(rows: Array, values: Array) -> Array:
    """Return each row whose value occurred before, with the first row that has it, (P, 2)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    is_later = first[inverse] != np.arange(len(rows))
    return np.stack([rows[first[inverse]][is_later], rows[is_later]], axis=1)


def _near_copies(rows: Array, hashes: Array, thumbnails: Thumbnails) -> Copies:
    """Return pairs with near hashes that the correlation of their thumbnails confirms."""
    candidates = _candidates(rows, hashes)
    pairs = np.concatenate([pairs for _, pairs in candidates])
    if not len(pairs):
        return Copies(pairs, np.empty(0, str), ())
    shown = np.unique(pairs)
    step = max(len(rows) // _REFERENCE_IMAGES, 1)
    mean = thumbnails(rows[::step]).mean(axis=0)
    residuals = thumbnails(shown)
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for orientation, some in candidates:
        for (first, second), bits, correlation in _compared(
            some, hashes, (shown, residuals, mean), orientation
        ):
            kind = _kind(bits, correlation)
            pair = min(first, second), max(first, second)
            if kind and found.get(pair, ("likely", ""))[0] != "certain":
                how = f", {orientation}" if orientation else ""
                note = f"{kind}{how}: {bits} of 256 bits differ, correlation {correlation:.3f}"
                found[pair] = kind, note
    ordered = sorted(found)
    kinds = np.array([found[pair][0] for pair in ordered], dtype=str)
    notes = tuple(found[pair][1] for pair in ordered)
    return Copies(np.array(ordered, np.int64).reshape(-1, 2), kinds, notes)


def _candidates(rows: Array, hashes: Array) -> list[tuple[str, Array]]:
    """Return pairs of rows with near hashes, for each orientation of the second one.

    Images of one hash, such as blank ones, are represented by the first of them: otherwise their
    pairs would be too many to compare.
    """
    as_bytes = np.ascontiguousarray(hashes[rows]).view("S32")[:, 0]
    equal = _links(rows, as_bytes)
    single = np.setdiff1d(rows, equal[:, 1])
    own = near_pairs(hashes[single], LIKELY_BITS)
    candidates = [("", np.concatenate([equal, single[own]]))]
    for orientation in ORIENTATIONS:
        others = oriented_hashes(hashes[single], orientation)
        pairs = near_pairs(hashes[single], LIKELY_BITS, others)
        candidates.append((orientation, single[pairs[pairs[:, 0] != pairs[:, 1]]]))
    return candidates


def _compared(
    pairs: Array, hashes: Array, thumbnails: tuple[Array, Array, Array], orientation: str
) -> Iterable[tuple[tuple[int, int], int, float]]:
    """Yield each pair, the number of different bits, and the correlation of its thumbnails."""
    shown, images, mean = thumbnails
    if not len(pairs):
        return
    right = hashes[pairs[:, 1]]
    right = oriented_hashes(right, orientation) if orientation else right
    bits = hamming(hashes[pairs[:, 0]], right)
    for (first, second), differing in zip(pairs.tolist(), bits.tolist(), strict=True):
        one, other = (images[np.searchsorted(shown, row)] for row in (first, second))
        yield (first, second), differing, _correlation(one, oriented(other, orientation), mean)


def _correlation(one: Array, other: Array, mean: Array) -> float:
    """Return the correlation of two thumbnails after the mean image was subtracted.

    What all images have in common, such as a bright disc, would make unrelated ones alike.
    """
    if min(one.std(), other.std()) < _FLAT:
        is_same = max(one.std(), other.std()) < _FLAT
        return float(is_same and abs(one.mean() - other.mean()) < _FLAT_DIFFERENCE)
    left, right = one - mean, other - mean
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum() / norm) if norm > 0 else float(np.array_equal(one, other))


def _kind(bits: int, correlation: float) -> str:
    """Return whether a pair is a certain or a likely copy; "" if it is none."""
    if bits <= CERTAIN_BITS and correlation >= CERTAIN_CORRELATION:
        return "certain"
    return "likely" if bits <= LIKELY_BITS and correlation >= LIKELY_CORRELATION else ""
