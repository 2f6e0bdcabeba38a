"""JPEGs: what their segments say, and the fast way through the ordinary ones.

libjpeg-turbo decodes here as it does inside Pillow, to the same pixels, but from memory, straight
to RGB, and reduced where less suffices. What it complains of is left to Pillow, which judges.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xda-\xfe])(..)", re.DOTALL)
_METADATA = re.compile(rb"[\xe1-\xed\xef\xfe]")
_SCAN, _END = b"\xda", b"\xff\xd9"
_FRAMES = (b"\xc0", b"\xc1", b"\xc2")  # Huffman-coded: baseline, extended, progressive
_SCALES = (8, 4, 2)


class JpegSource(NamedTuple):
    """Hold the bytes of an image, and what was learned from them before they are read.

    `size` is (width, height) where it is known; `parts` are the bytes without metadata; `plain`
    says that `decode` may read them.
    """

    data: bytes
    whole: bool = True
    exif: bytes = b""
    size: tuple[int, int] = (0, 0)
    parts: tuple[bytes | memoryview, ...] = ()
    plain: bool = False

    @property
    def clean(self) -> bytes:
        """Return the bytes without metadata."""
        return b"".join(self.parts) or self.data


def inspect(data: bytes) -> JpegSource:
    """Take metadata out: a corrupt EXIF block makes Pillow warn, a MPF block read other frames.

    JFIF (APP0) and Adobe (APP14) stay, since they say how colours are coded. A thumbnail goes
    with its EXIF block, so an end marker behind the first scan is the image's own.
    """
    view = memoryview(data)
    found, kept, at = JpegSource(data), [view[:2]], 2
    while match := _SEGMENT.search(data, at):
        marker, start = match[1], match.start()
        at = start + 2 + int.from_bytes(match[2], "big")
        if marker == _SCAN:
            whole = data.rfind(_END, at) > 0  # from behind: there it is in most files
            return found._replace(whole=whole, parts=(*kept, view[start:]))
        if not _METADATA.match(marker):
            kept.append(view[start:at])
        elif data.startswith(b"Exif\0\0", start + 4):
            found = found._replace(exif=found.exif or data[start + 4 : at])
        if marker in _FRAMES and not any(found.size):
            size, plain = _frame(data[start + 4 : start + 10])
            found = found._replace(size=size, plain=plain)
    return found._replace(whole=False, parts=tuple(kept))


def _frame(header: bytes) -> tuple[tuple[int, int], bool]:
    """Return width and height, and whether pixels are 8 bits of grey or of three colours."""
    height, width = (int.from_bytes(header[at : at + 2], "big") for at in (1, 3))
    return (width, height), (header[:1], header[5:]) in ((b"\x08", b"\1"), (b"\x08", b"\3"))


def decode(source: JpegSource, least: tuple[int, int] | None) -> npt.NDArray[np.uint8] | None:
    """Return RGB pixels as they are stored, (H, W, 3), or None where Pillow must judge.

    They are reduced as far as they keep `least`, (height, width). Needs no GIL while it decodes.
    """
    width, height = source.size
    scale = _scale(height, width, least) if least else 1
    shape = height // scale, width // scale, 3
    pixels = np.empty(shape, np.uint8)
    try:  # into room of our own, so that nothing larger than what the header said is ever made
        found = simplejpeg.decode_jpeg(
            source.data, min_height=shape[0], min_width=shape[1], buffer=pixels
        )
    except ValueError:
        return None
    return pixels if found.shape == shape else None


def _scale(height: int, width: int, least: tuple[int, int]) -> int:
    """Return by how much both sides may be divided.

    It divides them without a rest: a reduced image shows whole pixels only, so the rest would
    shift and stretch it by a part of one, which costs more than all else that reducing does.
    """
    for scale in _SCALES:
        whole = height % scale == width % scale == 0
        if whole and height // scale >= least[0] and width // scale >= least[1]:
            return scale
    return 1
