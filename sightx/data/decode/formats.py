"""Formats of images by their first bytes: those that are decoded, and others by their name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SIGNATURES: dict[str, bytes] = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "PPM": rb"P[1-6]\s",
}
"""The first bytes of the formats that the decoder reads, as regular expressions."""

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif",
)  # fmt: skip
"""The usual endings of their files, in lower case."""

_UNSUPPORTED: dict[str, bytes] = {
    "camera raw": rb"II\*\0....CR|....ftypcrx |FUJIFILMCCD-RAW|IIR[OS]\x08|MMOR|IIU\0|FOVb",
    "HEIC": rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)",
    "AVIF": rb"....ftypavi[fs]",
    "DICOM": rb".{128}DICM",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG XR": rb"II\xbc\x01",
    "BigTIFF": rb"II\+\0|MM\0\+",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?RADIANCE",
    "FITS": rb"SIMPLE  =",
    "NIfTI": rb".{344}n[+i]1\0",
    "NRRD": rb"NRRD000",
    "icon": rb"\0\0[\1\2]\0[^\0]\0",
    "DirectDraw": rb"DDS ",
    "SVG": rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg\b",
}
_RAW_ENDINGS = (".dng", ".nef", ".nrw", ".arw", ".sr2", ".cr2", ".pef", ".3fr", ".iiq", ".erf")
"""Endings of camera raw files that begin like a TIFF, of which a decoder finds only a thumbnail."""
_ENDINGS = {
    ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".dcm": "DICOM", ".dicom": "DICOM",
    ".nii.gz": "NIfTI", ".mha": "MetaImage", ".tga": "TGA",
}  # fmt: skip
NOT_SUPPORTED = "is not supported"
_HEAD = 512  # bytes
_STRICT = {"BMP": rb"BM.{4}\0{4}", "PPM": rb"P[1-6]\s+(?:#|\d+\s)"}
"""More of the formats whose first bytes may also begin a text."""


class ImageFormat(NamedTuple):
    """A format by its usual name, and whether it is decoded."""

    name: str
    is_supported: bool


def format_of(data: bytes, name: str = "") -> ImageFormat | None:
    """Return the format of a file by its first 512 bytes; None if it is not known as an image.

    `name` is the file's name. Its ending counts only where the bytes do not tell: for camera raw
    files, and for formats that may lack their signature.
    """
    ending = Path(name).suffix.lower()
    if ending in _RAW_ENDINGS:
        return ImageFormat("camera raw", is_supported=False)
    for signatures, is_supported in ((_UNSUPPORTED, False), (SIGNATURES, True)):
        for format_name, signature in signatures.items():
            if re.match(signature, data[:_HEAD], re.DOTALL):
                return ImageFormat(format_name, is_supported)
    names = (known for ending, known in _ENDINGS.items() if name.lower().endswith(ending))
    return next((ImageFormat(known, is_supported=False) for known in names), None)


def is_image_name(name: str) -> bool:
    """Return whether a file has the ending of an image, in upper or lower case."""
    return name.strip().lower().endswith(IMAGE_ENDINGS)


def read_format(file: Path) -> ImageFormat | None:
    """Return `format_of` a file; None also for one that is not regular or cannot be read."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    image_format = format_of(head, file.name)
    strict = _STRICT.get(image_format.name) if image_format else None
    return None if strict and not re.match(strict, head, re.DOTALL) else image_format
