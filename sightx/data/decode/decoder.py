"""The one decoder: from encoded bytes to RGB pixels, for training, evaluation and prediction.

Pillow decodes everything but ordinary JPEGs; this module decides what Pillow leaves open.
`Image.open` is not used: it warns above `MAX_IMAGE_PIXELS`, a global, and warning filters are
global too, so that neither can be set per call without disturbing other threads. The readers that
it would call are called here, chosen by the first bytes, so that no other reader (EPS, PDF, FPX)
can ever be reached.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

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

from sightx.data.decode import jpeg, png
from sightx.data.decode.formats import NOT_SUPPORTED, format_of
from sightx.data.decode.jpeg import EncodedImage
from sightx.registry import data_results

if TYPE_CHECKING:
    import torch

    from sightx.registry.kinds import Preprocess

DecodeMode = Literal["scaled", "exact"]

DECODER = "turbo-1"
"""The decoder's part of cache keys; changed when a change here changes a pixel."""

MARGIN = 1.75
"""A JPEG is decoded at no less than MARGIN times the height and width that the chain needs.

The decoder's downscaling is a coarser filter than the resize that follows; the margin leaves that
resize most of the work. With less, fine detail aliases.
"""

PIXEL_LIMIT = 40_000_000

_READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "PPM": PpmImageFile,
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
_TRANSPOSED = (5, 6, 7, 8)  # stored with height and width exchanged
_TIFF_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8), start=1))  # bytes by type
_TIFF_SHORT = 3
_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 0x00FE, 0x014A, 0xC612
_TIFF_METADATA = frozenset({
    269, 270, 271, 272, 285, 305, 306, 315, 316,  # names, makers, times
    700, 33432, 33723, 34377, 34665, 34675, 34853, 37724,  # XMP, IPTC, Photoshop, EXIF, ICC, GPS
    *range(40091, 40096), 42112, 42113,  # Windows, GDAL
})  # fmt: skip
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 0x0102, 0x0106, 0x0112


class BadImage(Exception):  # noqa: N818  translated before a user sees it
    """An image cannot be used; `reason` is a short phrase."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TruncatedImage(BadImage):
    """The end of the file is missing."""

    def __init__(self) -> None:
        super().__init__("truncated")


class TooManyPixels(BadImage):
    """An image has more pixels than the limit."""

    def __init__(self, pixels: int, limit: int) -> None:
        super().__init__(f"{math.ceil(pixels / 1e6)} Mpx > limit {limit / 1e6:g} Mpx")


def decode(
    data: bytes,
    *,
    pixel_limit: int = PIXEL_LIMIT,
    background: tuple[int, int, int] = (0, 0, 0),
    formats: Sequence[str] = FORMATS,
    min_size: tuple[int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of the first frame: RGB, 0..255, (H, W, 3), contiguous.

    Args:
        data: A file's bytes.
        pixel_limit: An image with more pixels is refused by its header, before it is decoded.
            Pillow's own guard for TIFF, WEBP and GIF also applies, from 89 Mpx.
        background: The colour behind transparent pixels.
        formats: The formats that are decoded, of `FORMATS`.
        min_size: The (height, width) that a JPEG must keep if it is decoded at a half, a quarter or
            an eighth of its size; None means that it keeps its full size.

    Raises BadImage.
    """
    name = sniff(data, formats)
    is_complete = False
    try:
        image = _inspect(name, data)
        is_complete = image.is_complete
        return _pixels(_READERS[name], image, pixel_limit, background, min_size)
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise TooManyPixels(pixels, pixel_limit) from error
    except Exception as error:
        raise (_bad_image(name, error) if is_complete else TruncatedImage()) from error


def min_decoded_size(chain: Sequence[Preprocess], decode: DecodeMode) -> tuple[int, int] | None:
    """Return the (height, width) that a decoded image must keep; None means its full size.

    The chain is asked from its end: what each component needs for what the next one needs.
    """
    size: tuple[int, int] | None = None
    for component in reversed(chain):
        size = data_results.required_input_size(component, size)
    if size is None or decode == "exact":
        return None
    height, width = size
    return math.ceil(MARGIN * height), math.ceil(MARGIN * width)


def from_pil(
    image: Image.Image, *, background: tuple[int, int, int] = (0, 0, 0)
) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of an image that Pillow has opened, as `decode` would."""
    return _upright(image, b"", background)


def open_header(data: bytes) -> tuple[ImageFile, int]:
    """Return a file opened by its header, without metadata, and its EXIF orientation, 1 to 8.

    No pixel is decoded. The orientation is 0 without an EXIF block. Raises BadImage.
    """
    name = sniff(data)
    try:
        image = _inspect(name, data)
        opened = _READERS[name](io.BytesIO(image.without_metadata))
    except (BadImage, MemoryError):
        raise
    except Exception as error:
        raise _bad_image(name, error) from error
    exif = image.exif or opened.info.get("exif", b"")
    return opened, _orientation(exif) if exif else 0


def to_tensor(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return pixels (H, W, 3) as a tensor (3, H, W) that shares their memory, channels last.

    Nothing is copied, and resizing is several times faster in this layout.
    """
    import torch

    return torch.from_numpy(pixels).permute(2, 0, 1)


def sniff(data: bytes, formats: Sequence[str] = FORMATS) -> str:
    """Return the format by the first bytes, one of `formats`. Raises BadImage."""
    if not data:
        raise BadImage("empty file")
    image_format = format_of(data)
    if image_format is None:
        raise BadImage("not an image")
    if not image_format.is_supported:
        raise BadImage(f"{image_format.name} {NOT_SUPPORTED}")
    if image_format.name not in formats:
        raise BadImage("not an image")
    return image_format.name


def _inspect(name: str, data: bytes) -> EncodedImage:
    """Find what Pillow does not look for: the end of the file, the size of a GIF's frame."""
    if name == "JPEG":
        return jpeg.inspect(data)
    if name == "PNG":
        return png.inspect(data)
    if name == "WEBP":
        return EncodedImage(data, 8 + int.from_bytes(data[4:8], "little") <= len(data))
    if name == "TIFF":
        return _inspect_tiff(data)
    if name == "GIF":
        return EncodedImage(data, size=_gif_frame(data))
    return EncodedImage(data)


def _inspect_tiff(data: bytes) -> EncodedImage:
    """Leave out the tags of metadata, which may be corrupt, and keep the orientation.

    Pillow would only warn about truncated tags, and ignore them.
    """
    tags = list(_tiff_tags(data))
    if any(end > len(data) for tag, _, end in tags if tag not in _TIFF_METADATA):
        raise TruncatedImage
    values = {tag: value for tag, value, _ in tags}
    if _DNG_VERSION in values or (values.get(_SUBFILE_TYPE) == 1 and _SUB_IFDS in values):
        raise BadImage(f"camera raw {NOT_SUPPORTED}")  # its first directory is a thumbnail
    if not values.keys() & _TIFF_METADATA:
        return EncodedImage(data)
    order = ">" if data.startswith(b"MM") else "<"
    (start,) = struct.unpack_from(order + "I", data, 4)
    end = start + 2 + 12 * len(tags)
    entries = [data[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [
        entry for entry, (tag, *_) in zip(entries, tags, strict=True) if tag not in _TIFF_METADATA
    ]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + data[end : end + 4]
    view = memoryview(data)
    return EncodedImage(data, parts=(view[:start], directory, view[start + len(directory) :]))


def _gif_frame(data: bytes) -> tuple[int, int]:
    """Return the width and height of the first frame, which Pillow may fill before it says so."""
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
    image: EncodedImage,
    pixel_limit: int,
    background: tuple[int, int, int],
    min_size: tuple[int, int] | None,
) -> npt.NDArray[np.uint8]:
    _check_size(image.size, pixel_limit)
    if image.is_plain and image.is_complete:
        pixels = _plain_jpeg(image, min_size)
        if pixels is not None:
            return pixels
    opened = reader(io.BytesIO(image.without_metadata))
    _check_size(opened.size, pixel_limit)
    if not image.is_complete:
        raise TruncatedImage
    _check_transparency(opened, image.data)
    opened.load()
    return _upright(opened, image.exif, background)


def _plain_jpeg(
    image: EncodedImage, min_size: tuple[int, int] | None
) -> npt.NDArray[np.uint8] | None:
    orientation = _orientation(image.exif)
    if min_size and orientation in _TRANSPOSED:
        min_size = min_size[::-1]
    pixels = jpeg.decode(image, min_size)
    if pixels is None or orientation not in _TURNS:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(_TURNS[orientation]))


def _upright(
    image: Image.Image, exif: bytes, background: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    turn = _TURNS.get(_orientation(exif or image.info.get("exif", b"")))
    rgb = _to_rgb(image, background)
    return np.array(rgb.transpose(turn) if turn is not None else rgb)


def _check_size(size: tuple[int, int], pixel_limit: int) -> None:
    if size[0] * size[1] > pixel_limit:
        raise TooManyPixels(size[0] * size[1], pixel_limit)


def _check_transparency(image: ImageFile, data: bytes) -> None:
    """Refuse a transparent colour at a depth at which Pillow compares it with scaled pixels."""
    depth = data[24] if isinstance(image, PngImageFile) else 8
    if depth != 8 and image.mode not in ("1", "P") and "transparency" in image.info:
        raise BadImage(f"unsupported transparent colour at {depth} bits")


def _orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block; 1 if it is missing or the block is corrupt."""
    try:
        tags = _tiff_tags(exif.removeprefix(b"Exif\0\0"))
        return next((value for tag, value, _ in tags if tag == _ORIENTATION), 1)
    except (struct.error, TypeError):  # a PNG may hold a text called exif
        return 1


def _tiff_tags(tiff: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield tag, value and end of the data of each entry of the first directory.

    Raises struct.error if the directory is truncated.
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


def _bad_image(name: str, error: Exception) -> BadImage:
    """Return the error with a phrase without addresses, which would differ from run to run."""
    text = " ".join(re.sub(r"<.*?>|\b0x[0-9a-fA-F]+", "", str(error)).split())
    if re.search(r"truncat|not enough|unpack|out of range|not large enough|EOF", text, re.I):
        return TruncatedImage()
    return BadImage(f"unreadable {name}: {text}"[:80].rstrip(" :"))
