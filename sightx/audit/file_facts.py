"""What the header of an image file says: facts that a model should never need."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from PIL.ImageFile import ImageFile

from sightx.data.decode.decoder import FORMATS, open_header

MODES = ("", "1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "F")
"""Modes of Pillow, by their number in `FileFacts.mode`; "" is any other."""
_PNG_DEPTH, _TIFF_DEPTH = 24, 258  # the byte of a PNG, and the tag of a TIFF


class FileFacts(NamedTuple):
    """Facts about a file, as numbers; all are 0 for an image that is not a file.

    `format` is a position in `FORMATS` plus one, `mode` one in `MODES`. `orientation` is that of
    EXIF, 0 without an EXIF block. `quantization` is the mean of a JPEG's table for luminance: the
    larger, the lower is the quality.
    """

    bytes: int = 0
    width: int = 0
    height: int = 0
    frames: int = 0
    format: int = 0
    mode: int = 0
    bits: int = 0
    orientation: int = 0
    is_progressive: bool = False
    has_jfif: bool = False
    quantization: float = 0.0


def read_facts(data: bytes) -> FileFacts:
    """Return the facts about a file. Raises BadImage."""
    opened, orientation = open_header(data)
    tables: dict[int, Any] = getattr(opened, "quantization", None) or {}
    mode = opened.mode.partition(";")[0] + (";16" if opened.mode.startswith("I;16") else "")
    return FileFacts(
        bytes=len(data),
        width=opened.width,
        height=opened.height,
        frames=min(_frames(opened, data), 65535),
        format=FORMATS.index(opened.format or "") + 1 if opened.format in FORMATS else 0,
        mode=MODES.index(mode) if mode in MODES else 0,
        bits=_bits(opened, data),
        orientation=orientation if orientation in range(9) else 0,
        is_progressive=bool(opened.info.get("progressive")),
        has_jfif="jfif" in opened.info,
        quantization=float(np.mean(tables[min(tables)])) if tables else 0.0,
    )


def _frames(opened: ImageFile, data: bytes) -> int:
    """Return the number of frames, pages or pictures; 1 if they cannot be counted."""
    if opened.format == "PNG":
        return 2 if b"acTL" in data[: data.find(b"IDAT")] else 1  # an animation
    try:
        return int(getattr(opened, "n_frames", 1))
    except (OSError, EOFError, ValueError, SyntaxError):
        return 1


def _bits(opened: ImageFile, data: bytes) -> int:
    """Return the bits per channel."""
    if opened.format == "PNG":
        return data[_PNG_DEPTH]
    if opened.format == "TIFF":
        depth = getattr(opened, "tag_v2", {}).get(_TIFF_DEPTH, (8,))
        return int(depth[0])
    if opened.format == "PPM":
        return _ppm_bits(data)
    return 1 if opened.mode == "1" else 8


def _ppm_bits(data: bytes) -> int:
    """Return the bits of a PPM's largest value, the last number of its header."""
    words: list[bytes] = []
    for line in io.BytesIO(data[:4096]):
        words += line.partition(b"#")[0].split()
        if len(words) >= 4:
            break
    is_bitmap = bool(words) and words[0] in (b"P1", b"P4")
    return 1 if is_bitmap or len(words) < 4 else int(words[3]).bit_length()
