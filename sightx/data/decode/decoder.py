"""The one decoder: encoded bytes to RGB pixels, for training, evaluation, prediction, serving.

Pillow reads, ordinary JPEGs apart; this module decides what Pillow leaves open. `Image.open` is not
used: it warns above `MAX_IMAGE_PIXELS`, a global, and warning filters are global too, so neither
can be set per call without disturbing other threads. The readers it would call are called here
instead, after a look at the first bytes, so no other reader (EPS, PDF, FPX) can ever be reached.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sightx.data.decode import jpeg
from sightx.data.decode.jpeg import JpegSource

if TYPE_CHECKING:
    import torch

DECODER = "turbo-1"
"""Name of these pixels in stored keys; raised when a change here changes a pixel."""

PIXEL_LIMIT = 40_000_000

_READERS: dict[str, tuple[bytes, type[ImageFile]]] = {
    "JPEG": (rb"\xff\xd8\xff", JpegImageFile),
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    "BMP": (rb"BM", BmpImageFile),
    "TIFF": (rb"II\*\0|MM\0\*", TiffImageFile),
    "WEBP": (rb"RIFF....WEBP", WebPImageFile),
    "GIF": (rb"GIF8[79]a", GifImageFile),
    "PPM": (rb"P[1-6]\s", PpmImageFile),
}
FORMATS = tuple(_READERS)

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # stored with height and width exchanged
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_TIFF_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8), start=1))  # bytes by type
_TIFF_SHORT = 3
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 0x0102, 0x0106, 0x0112


class BadImage(Exception):  # noqa: N818  caught inside, shown as a phrase, never raised at a user
    """Say in one short phrase, `reason`, why bytes are not a usable image."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(
    data: bytes,
    *,
    limit: int = PIXEL_LIMIT,
    background: tuple[int, int, int] = (0, 0, 0),
    formats: Sequence[str] = FORMATS,
    least: tuple[int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of the first frame: RGB, 0..255, (H, W, 3), contiguous.

    More than `limit` pixels are refused from the header; alpha is composited on `background`.
    Pillow's own guard for TIFF, WEBP and GIF also applies from 89 Mpx. A JPEG may come at a half,
    a quarter or an eighth of its size, while that keeps `least`, (height, width). Raise `BadImage`.
    """
    name = sniff(data, formats)
    whole = False
    try:
        source = _inspect(name, data)
        whole = source.whole
        return _pixels(_READERS[name][1], source, limit, background, least)
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise BadImage(_too_large(pixels, limit)) from error
    except Exception as error:
        raise BadImage(_reason(name, error) if whole else "truncated") from error


def from_pil(
    image: Image.Image, *, background: tuple[int, int, int] = (0, 0, 0)
) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of an image that Pillow has opened, as `decode` would."""
    return _upright(image, b"", background)


def to_tensor(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return pixels (H, W, 3) as a tensor (3, H, W) on the same memory: channels stay last there.

    Resizing is several times faster so, and nothing is copied.
    """
    import torch

    return torch.from_numpy(pixels).permute(2, 0, 1)


def sniff(data: bytes, formats: Sequence[str] = FORMATS) -> str:
    """Return the format that bytes begin as, one of `formats`. Raise `BadImage`."""
    if not data:
        raise BadImage("empty file")
    for name in formats:
        if re.match(_READERS[name][0], data, re.DOTALL):
            return name
    raise BadImage("not an image")


def _inspect(name: str, data: bytes) -> JpegSource:
    """Look for what Pillow does not: the end of the file, the size of a GIF's frame."""
    if name == "JPEG":
        return jpeg.inspect(data)
    if name == "PNG":
        return JpegSource(data, _PNG_END in data)
    if name == "WEBP":
        return JpegSource(data, 8 + int.from_bytes(data[4:8], "little") <= len(data))
    if name == "TIFF" and any(end > len(data) for *_, end in _tiff_tags(data)):
        raise BadImage("truncated")  # Pillow would only warn, and go on without those tags
    if name == "GIF":
        return JpegSource(data, size=_gif_frame(data))
    return JpegSource(data)


def _gif_frame(data: bytes) -> tuple[int, int]:
    """Return how far the first frame reaches, which Pillow may fill before it can be asked."""
    at = 13 + (6 << (data[10] & 7)) * (data[10] >> 7)
    while data[at] == 0x21:
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    if data[at] != 0x2C:
        raise BadImage("unreadable GIF: no frame")
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    return left + width, top + height


def _pixels(
    reader: type[ImageFile],
    source: JpegSource,
    limit: int,
    background: tuple[int, int, int],
    least: tuple[int, int] | None,
) -> npt.NDArray[np.uint8]:
    _gate(source.size, limit)
    if source.plain and source.whole and (pixels := _plain_jpeg(source, least)) is not None:
        return pixels
    image = reader(io.BytesIO(source.clean))
    _gate(image.size, limit)
    if not source.whole:
        raise BadImage("truncated")
    _check_key(image, source.data)
    image.load()
    return _upright(image, source.exif, background)


def _plain_jpeg(source: JpegSource, least: tuple[int, int] | None) -> npt.NDArray[np.uint8] | None:
    orientation = _orientation(source.exif)
    lying = orientation in _LYING
    pixels = jpeg.decode(source, least[::-1] if least and lying else least)
    if pixels is None or orientation not in _TURNS:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(_TURNS[orientation]))


def _upright(
    image: Image.Image, exif: bytes, background: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    turn = _TURNS.get(_orientation(exif or image.info.get("exif", b"")))
    rgb = _to_rgb(image, background)
    return np.array(rgb.transpose(turn) if turn is not None else rgb)


def _gate(size: tuple[int, int], limit: int) -> None:
    if size[0] * size[1] > limit:
        raise BadImage(_too_large(size[0] * size[1], limit))


def _too_large(pixels: int, limit: int) -> str:
    return f"{math.ceil(pixels / 1e6)} Mpx > limit {limit / 1e6:g} Mpx"


def _check_key(image: ImageFile, data: bytes) -> None:
    """Refuse a transparent colour at a depth where Pillow compares it with scaled pixels."""
    depth = data[24] if isinstance(image, PngImageFile) else 8
    if depth != 8 and image.mode not in ("1", "P") and "transparency" in image.info:
        raise BadImage(f"unsupported transparent colour at {depth} bits")


def _orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 where it is missing or the block corrupt."""
    try:
        tags = _tiff_tags(exif.removeprefix(b"Exif\0\0"))
        return next((value for tag, value, _ in tags if tag == _ORIENTATION), 1)
    except (struct.error, TypeError):  # a PNG may hold a text called exif
        return 1


def _tiff_tags(tiff: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield tag, number and end of the data of each entry of the first directory.

    Raise `struct.error` where the directory is cut.
    """
    order = ">" if tiff.startswith(b"MM") else "<"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, items, value = struct.unpack_from(order + "HHII", tiff, at)
        size = items * _TIFF_SIZES.get(kind, 0)
        short = value >> 16 if order == ">" else value & 0xFFFF
        yield tag, short if kind == _TIFF_SHORT else value, value + size if size > 4 else 0


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Convert any mode with a declared range; Pillow reads CMYK JPEG as Adobe writes it."""
    if image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PpmImageFile)):
        image = _to_8_bits(image)
    if image.mode not in _MODES:
        raise BadImage(f"unsupported mode {image.mode}")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(rgba, mask=rgba)
    return canvas


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Keep the high byte, as Pillow does for 16-bit RGB, so that grey equals RGB grey."""
    values, bits = np.asarray(image), 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (bits,))[0]
        if image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is zero: Pillow inverts up to 8 bits only
            values = (1 << bits) - 1 - values
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _reason(name: str, error: Exception) -> str:
    """Return a phrase without addresses, which would differ from run to run."""
    text = " ".join(re.sub(r"<.*?>|\b0x[0-9a-fA-F]+", "", str(error)).split())
    if re.search(r"truncat|not enough|unpack|out of range|not large enough|EOF", text, re.I):
        return "truncated"
    return f"unreadable {name}: {text}"[:80].rstrip(" :")
