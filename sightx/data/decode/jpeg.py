"""JPEG: parse the segments, and decode ordinary files fast.

libjpeg-turbo decodes here as it does inside Pillow, to the same pixels, but from memory, straight
to RGB, and downscaled if a smaller size is enough. A file that it complains about goes to Pillow.
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


class EncodedImage(NamedTuple):
    """The bytes of an image, and what is known about them before they are decoded."""

    data: bytes
    is_complete: bool = True
    exif: bytes = b""
    size: tuple[int, int] = (0, 0)
    """Width and height; zeros if unknown."""
    parts: tuple[bytes | memoryview, ...] = ()
    """The bytes without metadata; empty if they were not separated."""
    is_plain: bool = False
    """Whether `decode` may decode them."""

    @property
    def without_metadata(self) -> bytes:
        """Return the bytes without metadata."""
        return b"".join(self.parts) or self.data


def inspect(data: bytes) -> EncodedImage:
    """Parse the segments and separate metadata.

    A corrupt EXIF block makes Pillow warn, and an MPF block makes it read other frames. JFIF (APP0)
    and Adobe (APP14) stay, since they say how colours are coded. A thumbnail goes with its EXIF
    block, so an end marker after the first scan is the image's own.
    """
    view = memoryview(data)
    image, kept, at = EncodedImage(data), [view[:2]], 2
    while match := _SEGMENT.search(data, at):
        marker, start = match[1], match.start()
        at = start + 2 + int.from_bytes(match[2], "big")
        if marker == _SCAN:
            is_complete = data.rfind(_END, at) > 0  # backwards: it is at the end of most files
            return image._replace(is_complete=is_complete, parts=(*kept, view[start:]))
        if not _METADATA.match(marker):
            kept.append(view[start:at])
        elif data.startswith(b"Exif\0\0", start + 4):
            image = image._replace(exif=image.exif or data[start + 4 : at])
        if marker in _FRAMES and not any(image.size):
            size, is_plain = _frame(data[start + 4 : start + 10])
            image = image._replace(size=size, is_plain=is_plain)
    return image._replace(is_complete=False, parts=tuple(kept))


def _frame(header: bytes) -> tuple[tuple[int, int], bool]:
    """Return width and height, and whether pixels are 8 bits of grey or of three colours."""
    height, width = (int.from_bytes(header[at : at + 2], "big") for at in (1, 3))
    return (width, height), (header[:1], header[5:]) in ((b"\x08", b"\1"), (b"\x08", b"\3"))


def decode(image: EncodedImage, min_size: tuple[int, int] | None) -> npt.NDArray[np.uint8] | None:
    """Return the stored RGB pixels, (H, W, 3), or None if Pillow must decide.

    They are downscaled as far as `min_size`, (height, width), allows; None means not at all. The
    GIL is released while decoding.
    """
    width, height = image.size
    scale = _scale(height, width, min_size) if min_size else 1
    shape = height // scale, width // scale, 3
    pixels = np.empty(shape, np.uint8)
    try:  # into our own buffer, so that nothing larger than the header says is ever allocated
        decoded = simplejpeg.decode_jpeg(
            image.data, min_height=shape[0], min_width=shape[1], buffer=pixels
        )
    except ValueError:
        return None
    return pixels if decoded.shape == shape else None


def _scale(height: int, width: int, min_size: tuple[int, int]) -> int:
    """Return the factor by which height and width may be divided.

    It divides both without remainder: a downscaled image has whole pixels only, so a remainder
    would shift and stretch it by a fraction of one, which costs more than all else in downscaling.
    """
    for scale in _SCALES:
        divides = height % scale == width % scale == 0
        if divides and height // scale >= min_size[0] and width // scale >= min_size[1]:
            return scale
    return 1
