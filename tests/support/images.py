"""Encoded images for tests of the decoder."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image, kind, **options):
    """Return the file Pillow writes for an image or an array."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def raw_png(width, height, depth, colour, rows, *, trns=b""):
    """Return a PNG made by hand, for the kinds that Pillow cannot write."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    key = chunk(b"tRNS", trns) if trns else b""
    parts = [chunk(b"IHDR", head), key, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def photo(height=40, width=56):
    """Return pixels with edges and noise, different in every corner."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(7).integers(0, 60, (height, width, 3))
    return (np.stack([3 * x, 4 * y, x + y], axis=-1) + noise).clip(0, 255).astype(np.uint8)
