"""A hash of 256 bits that copies of an image share, whatever their size, encoding or orientation.

The bits are the signs of the lowest 16 x 16 coefficients of a discrete cosine transform (DCT).
Usually they are compared with their median (C. Zauner, "Implementation and benchmarking of
perceptual image hash functions", 2010). Signs serve as well, and they tell the hash of each of the
eight orientations without the image: mirroring changes the sign of every second column, turning an
image upside down that of every second row, and transposing exchanges rows and columns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SIZE = 64
"""Height and width of the grey image that is hashed."""
_LOW = 16  # coefficients per axis
_NOISE = 0.01  # of rounding, in coefficients of a blank image
WORDS = _LOW * _LOW // 64
"""Number of uint64 words of a hash."""


def perceptual_hash(grey: Array) -> Array:
    """Return the hash of a grey image, uint64 (4,).

    Args:
        grey: float (64, 64); the mean does not count.
    """
    basis = _dct_basis()
    bits = basis @ grey @ basis.T > _NOISE
    bits[0, 0] = False  # the mean
    words: Array = _pack(bits[None])[0]
    return words


@cache
def _dct_basis() -> Array:
    """Return the first rows of the orthonormal DCT-II, float32 (16, 64)."""
    k, n = np.arange(_LOW)[:, None], np.arange(SIZE)
    basis: Array = np.sqrt(2 / SIZE) * np.cos(np.pi * k * (2 * n + 1) / (2 * SIZE))
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def _pack(bits: Array) -> Array:
    """Return bits (N, 16, 16) as words, uint64 (N, 4)."""
    words: Array = np.packbits(bits.reshape(len(bits), _LOW * _LOW), axis=1).view(np.uint64)
    return words


def unpack(hashes: Array) -> Array:
    """Return hashes, uint64 (N, W), as bits, uint8 (N, 64 W)."""
    return np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8), axis=1)


def _changes_sign(*, rows: bool = False, columns: bool = False) -> Array:
    """Return which coefficients change their sign, bool (16, 16)."""
    is_odd = np.arange(_LOW) % 2 == 1
    changes: Array = (is_odd[:, None] & rows) ^ (is_odd & columns)
    return changes


_MIRRORED = {"columns": True}
_FLIPPED = {"rows": True}
_ORIENTATIONS: dict[str, tuple[bool, dict[str, bool]]] = {
    "mirrored": (False, _MIRRORED),
    "upside down and mirrored": (False, _FLIPPED),
    "rotated by 180 degrees": (False, _MIRRORED | _FLIPPED),
    "transposed": (True, {}),
    "rotated by 90 degrees": (True, _FLIPPED),
    "transposed along the other diagonal": (True, _MIRRORED | _FLIPPED),
}
"""Whether rows and columns are exchanged, and then signs changed, for each orientation.

A rotation by 270 degrees is the one by 90 degrees of the other image of a pair.
"""
ORIENTATIONS = tuple(_ORIENTATIONS)


def oriented_hashes(hashes: Array, orientation: str) -> Array:
    """Return the hashes that the images have in another orientation, uint64 (N, 4)."""
    is_transposed, signs = _ORIENTATIONS[orientation]
    bits = unpack(hashes).reshape(-1, _LOW, _LOW).astype(bool)
    bits = bits.swapaxes(1, 2) if is_transposed else bits
    bits = bits ^ _changes_sign(**signs)
    bits[:, 0, 0] = False
    return _pack(bits)


def oriented(image: Array, orientation: str) -> Array:
    """Return an image (H, W, ...) in another orientation, "" for its own."""
    is_transposed, signs = _ORIENTATIONS[orientation] if orientation else (False, {})
    image = image.swapaxes(0, 1) if is_transposed else image
    return image[:: -1 if signs.get("rows") else 1, :: -1 if signs.get("columns") else 1]
