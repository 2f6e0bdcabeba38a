"""Metadata of a PNG never makes it bad."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from sightx.data.decode.decoder import BadImage, decode
from support.images import encode, photo


def png_with(*chunks):
    """Return a PNG with more chunks behind its header, and pixels to compare with."""
    data = encode(photo(), "PNG")
    added = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return data[:33] + b"".join(added) + data[33:]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"tEXt", b"key\0" + b"x" * 5_000_000),
        (b"zTXt", b"key\0\0" + zlib.compress(b"x" * 70_000_000)),
        (b"iTXt", b"key\0\1\0\0\0" + zlib.compress(b"x" * 5_000_000)),
        (b"iCCP", b"name\0\0" + zlib.compress(b"x" * 5_000_000)),
        (b"iCCP", b"name\0\7broken"),
        (b"zTXt", b"broken"),
        (b"acTL", b"bad"),
        (b"pHYs", b""),
        (b"gAMA", b"1"),
        (b"cHRM", b""),
        (b"eXIf", b"broken"),
    ],
)
def test_metadata_of_a_png_never_makes_it_bad(name, body):
    assert np.array_equal(decode(png_with((name, body))), photo())


def test_a_wrong_checksum_of_metadata_does_not_matter_but_one_of_pixels_does():
    data = bytearray(png_with((b"tEXt", b"key\0value")))
    data[33 + 8 + 9] ^= 1
    assert np.array_equal(decode(bytes(data)), photo())
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(BadImage):
        decode(bytes(data))


def test_many_texts_do_not_make_a_png_bad():
    texts = [(b"zTXt", b"key\0\0" + zlib.compress(b"x" * 1_000_000))] * 80
    assert np.array_equal(decode(png_with(*texts)), photo())
