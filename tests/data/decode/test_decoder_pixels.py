import struct
from functools import cache

import numpy as np
import pytest
from PIL import Image

from sightx.data.decode.decoder import BadImage, decode
from support.images import encode, photo, raw_png

BACKGROUND = (10, 20, 30)


def exif(orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"Exif\0\0" + mark + entry


def reason(data, **options):
    with pytest.raises(BadImage) as caught:
        decode(data, **options)
    return caught.value.reason


# D16: sixteen bits

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


@cache
def sixteen_bit_files():
    big = RAMP.astype(">u2")
    rgb, rgba = np.dstack([RAMP] * 3), np.dstack([RAMP] * 3 + [np.full_like(RAMP, 65535)])
    tiff = encode(RAMP, "TIFF")
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, n, 0) for n in (1, 0))
    assert tiff.count(black_is_zero) == 1
    return {
        "png grey": encode(RAMP, "PNG"),
        "png rgb": raw_png(256, 256, 16, 2, [row.astype(">u2").tobytes() for row in rgb]),
        "png rgba": raw_png(256, 256, 16, 6, [row.astype(">u2").tobytes() for row in rgba]),
        "tiff": tiff,
        "tiff big-endian": encode(Image.frombytes("I;16B", (256, 256), big.tobytes()), "TIFF"),
        "tiff lzw": encode(RAMP, "TIFF", compression="tiff_lzw"),
        "tiff, white is zero": encode(65535 - RAMP, "TIFF").replace(black_is_zero, white_is_zero),
        "ppm": b"P5 256 256 65535\n" + big.tobytes(),
    }


@pytest.mark.parametrize("name", sorted(sixteen_bit_files()))
def test_sixteen_bits_become_their_high_byte(name):
    pixels = decode(sixteen_bit_files()[name])

    assert abs(pixels.mean() - 127.5) < 1
    assert np.array_equal(pixels, np.dstack([RAMP >> 8] * 3))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_mode_without_a_declared_range_is_refused(mode):
    assert reason(encode(Image.new(mode, (4, 4), 7), "TIFF")) == f"unsupported mode {mode}"


def test_a_transparent_colour_that_pillow_compares_wrongly_is_refused():
    files = {
        4: raw_png(2, 1, 4, 0, [b"\xf0"], trns=b"\0\x0f"),
        16: raw_png(1, 1, 16, 2, [b"\0\1" * 3], trns=b"\0\1" * 3),
    }
    for bits, data in files.items():
        assert reason(data) == f"unsupported transparent colour at {bits} bits"


# D17: the golden pixel table


def over(colour, alpha):
    """Return a colour over the background, rounded, from the definition of alpha."""
    parts = zip(colour, BACKGROUND, strict=True)
    return [(2 * (c * alpha + b * (255 - alpha)) + 255) // 510 for c, b in parts]


RED, GREEN, BLUE = (255, 0, 0), (0, 200, 0), (7, 8, 250)


def palette():
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([*RED, *GREEN, *BLUE])
    return image


def key(colour):
    return struct.pack(">3H", *colour)


GOLDEN = {
    "1": (encode(Image.frombytes("1", (3, 1), b"\xa0"), "PNG"), [[255] * 3, [0] * 3, [255] * 3]),
    "L": (encode(np.array([[0, 9, 255]], np.uint8), "PNG"), [[0] * 3, [9] * 3, [255] * 3]),
    "P": (encode(palette(), "PNG"), [RED, GREEN, BLUE]),
    "P + tRNS of one entry": (
        encode(palette(), "PNG", transparency=1),
        [RED, BACKGROUND, BLUE],
    ),
    "P + tRNS": (
        encode(palette(), "PNG", transparency=bytes([255, 128, 0])),
        [RED, over(GREEN, 128), BACKGROUND],
    ),
    "P + transparent, GIF": (encode(palette(), "GIF", transparency=2), [RED, GREEN, BACKGROUND]),
    "LA": (
        encode(np.array([[[200, 255], [200, 100], [200, 0]]], np.uint8), "PNG"),
        [[200] * 3, over((200,) * 3, 100), BACKGROUND],
    ),
    "RGBA": (
        encode(np.array([[[*RED, 255], [*GREEN, 77], [*BLUE, 0]]], np.uint8), "PNG"),
        [RED, over(GREEN, 77), BACKGROUND],
    ),
    "RGBA, WEBP": (
        encode(np.array([[[*RED, 255], [*BLUE, 77]]], np.uint8), "WEBP", lossless=True, exact=True),
        [RED, over(BLUE, 77)],
    ),
    "RGB + tRNS": (
        raw_png(3, 1, 8, 2, [bytes([*RED, *GREEN, *BLUE])], trns=key(GREEN)),
        [RED, BACKGROUND, BLUE],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_pixel_table(name):
    data, row = GOLDEN[name]

    assert decode(data, background=BACKGROUND).tolist() == [[list(pixel) for pixel in row]]


def cmyk_jpeg(stored, transform):
    """Return a flat JPEG with four stored components and the Adobe colour transform."""
    flat = Image.new("CMYK", (16, 16), tuple(255 - value for value in stored))
    data = bytearray(encode(flat, "JPEG", quality=100, subsampling=0))
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = transform
    return bytes(data)


@pytest.mark.parametrize("stored", [(255, 255, 255, 255), (40, 200, 120, 220), (90, 90, 90, 0)])
def test_cmyk_jpeg_stores_inverted_inks(stored):
    *colour, black = stored

    pixels = decode(cmyk_jpeg(stored, transform=0)).astype(int)

    assert np.abs(pixels - [value * black / 255 for value in colour]).max() <= 2


@pytest.mark.parametrize("stored", [(0, 128, 128, 255), (100, 120, 140, 200), (180, 100, 90, 90)])
def test_ycck_jpeg_stores_the_inks_as_luma_and_chroma(stored):
    luma, blue, red, black = stored
    inks = [
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    ]

    pixels = decode(cmyk_jpeg(stored, transform=2)).astype(int)

    assert np.abs(pixels - [(255 - ink) * black / 255 for ink in inks]).max() <= 2


# D18: orientation

STORED = {
    1: lambda up: up,
    2: lambda up: up[:, ::-1],
    3: lambda up: up[::-1, ::-1],
    4: lambda up: up[::-1],
    5: lambda up: up.swapaxes(0, 1),
    6: lambda up: np.rot90(up, 1),
    7: lambda up: up[::-1, ::-1].swapaxes(0, 1),
    8: lambda up: np.rot90(up, -1),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_gives_the_upright_pixels(orientation, order):
    upright = photo()
    stored = np.ascontiguousarray(STORED[orientation](upright))
    block = exif(orientation, order)

    assert np.array_equal(decode(encode(stored, "PNG", exif=block)), upright)
    assert np.array_equal(decode(encode(stored, "WEBP", lossless=True, exif=block)), upright)
    tiff = encode(stored, "TIFF", tiffinfo={0x0112: orientation})
    assert np.array_equal(decode(tiff), upright)
    turned = decode(encode(stored, "JPEG", exif=block))
    assert np.array_equal(STORED[orientation](turned), decode(encode(stored, "JPEG")))


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1" * 30,
        b"Exif\0\0" + bytes(range(200)),
        exif(1)[:-8],
        exif(9),
        exif(0),
    ],
)
def test_a_corrupt_exif_block_is_ignored(block):
    for kind in ("JPEG", "PNG"):
        data = encode(photo(), kind, exif=block)
        assert np.array_equal(decode(data), decode(encode(photo(), kind)))
