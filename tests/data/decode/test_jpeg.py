import io
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from sightx.data.decode import jpeg
from sightx.data.decode.decoder import MARGIN, BadImage, decode

PHOTOGRAPHS = Path(__file__).resolve().parents[4] / "shared/data/eyepacs-fullres/images"


def encode(image, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@cache
def photo(height=96, width=160, *, fall=1.5, seed=7):
    """Return what a camera might see: detail of every size, its strength falling with `fall`."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf

    def layer():
        spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**fall
        values = np.fft.irfft2(spectrum, (height, width))
        return values / values.std()

    light = layer()
    colours = [120 + 45 * light + 15 * layer() for _ in range(3)]
    return (
        (np.stack(colours, axis=-1) + rng.normal(0, 2, (height, width, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def exif(orientation):
    entry = struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"Exif\0\0II*\0" + entry


def pillows(data, size=None):
    """Return Pillow's pixels, reduced while it decodes where a (width, height) is given."""
    image = Image.open(io.BytesIO(data))
    if size:
        image.draft("RGB", size)
        assert image.size == size
    return np.array(image.convert("RGB"))


@cache
def kinds():
    pixels, grey = photo(), Image.fromarray(photo()).convert("L")
    plain = encode(pixels)
    return {
        "4:4:4": encode(pixels, subsampling=0),
        "4:2:2": encode(pixels, subsampling=1),
        "4:2:0": plain,
        "progressive": encode(pixels, progressive=True),
        "restarts": encode(pixels, restart_marker_rows=1),
        "grey": encode(grey),
        "RGB": encode(pixels, keep_rgb=True),
        "profile": encode(pixels, icc_profile=bytes(70_000)),
        "markers in a comment": encode(pixels, comment=b"\xff\xc0\xff\xda\xff\xd9" * 9),
        "fill bytes": plain.replace(b"\xff\xda", b"\xff\xff\xff\xda", 1),
    }


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_ordinary_jpegs_go_the_fast_way_to_pillows_pixels(name, scale):
    data = kinds()[name]
    size = 160 // scale, 96 // scale

    pixels = jpeg.decode(jpeg.inspect(data), size[::-1])

    assert np.array_equal(pixels, pillows(data, size))
    assert np.array_equal(decode(data, min_size=size[::-1]), pixels)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize(
    ("size", "least", "wanted"),
    [
        ((96, 160), None, (96, 160)),
        ((96, 160), (49, 1), (96, 160)),
        ((96, 160), (1, 81), (96, 160)),
        ((96, 160), (48, 80), (48, 80)),
        ((96, 160), (25, 40), (48, 80)),
        ((96, 160), (24, 40), (24, 40)),
        ((96, 160), (1, 1), (12, 20)),
        ((96, 160), (500, 500), (96, 160)),
        ((100, 160), (1, 1), (25, 40)),  # an eighth of 100 is not a whole number
        ((98, 160), (1, 1), (49, 80)),
        ((96, 161), (1, 1), (96, 161)),
    ],
)
def test_the_smallest_scale_that_keeps_the_least_and_divides_both_sides(size, least, wanted):
    assert decode(encode(photo(*size)), min_size=least).shape == (*wanted, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_least_is_that_of_the_upright_image(orientation):
    data = encode(photo(), exif=exif(orientation))
    upright = decode(data)
    height, width, _ = upright.shape
    assert (height, width) == ((96, 160) if orientation < 5 else (160, 96))

    half = decode(data, min_size=(height // 2, width // 2))
    assert half.shape == (height // 2, width // 2, 3)
    assert np.abs(half.astype(int) - reduced(upright, half.shape[:2])).mean() < 4
    assert decode(data, min_size=(height // 2 + 1, 1)).shape == upright.shape
    assert decode(data, min_size=(1, width // 2 + 1)).shape == upright.shape


def test_unusual_files_are_left_to_pillow():
    colours = Image.fromarray(photo()).convert("CMYK")
    data = encode(colours)
    assert not jpeg.inspect(data).is_plain
    assert decode(data, min_size=(1, 1)).shape == (96, 160, 3)
    assert np.array_equal(decode(data), pillows(data))


def complaints():
    """Return files that libjpeg warns of, and that Pillow reads nevertheless."""
    data = kinds()["4:2:0"]
    return {
        "extraneous bytes": data[:-2] + b"\1\2\3\4\xff\xd9",
        "junk between segments": data.replace(b"\xff\xdb", b"junk\xff\xdb", 1),
        "data end early": data[: len(data) // 2] + b"\xff\xd9",
    }


@pytest.mark.parametrize("name", complaints())
def test_files_with_warnings_are_decoded_by_pillow(name):
    data = complaints()[name]
    source = jpeg.inspect(data)
    assert source.is_plain
    assert source.is_complete
    assert jpeg.decode(source, None) is None
    assert np.array_equal(decode(data, min_size=(1, 1)), pillows(data))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_cut_file_is_truncated_at_any_scale(share):
    data = encode(photo(200, 320))
    with pytest.raises(BadImage, match=r"^truncated$"):
        decode(data[: int(len(data) * share)], min_size=(10, 10))


def test_a_size_in_segments_alone_reserves_no_memory():
    data = kinds()["4:2:0"]
    source = jpeg.inspect(data)._replace(size=(159, 95))
    assert jpeg.decode(source, None) is None


def test_threads_reduce_as_one_thread_does():
    files = [*kinds().values()] * 8
    alone = [decode(data, min_size=(40, 40)) for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode(data, min_size=(40, 40)), files))
    assert all(map(np.array_equal, alone, together))


# What reducing costs


def reduced(pixels, size):
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    scaled = interpolate(batch.float(), tuple(size), mode="bilinear", antialias=True)[0]
    return scaled.round().clamp(0, 255).permute(1, 2, 0).numpy()


def loss(data, size):
    """Return PSNR and mean difference of reduced against exact decoding, both seen at a size."""
    least = [math.ceil(MARGIN * length) for length in size]
    whole, less = decode(data), decode(data, min_size=least)
    assert less.shape[0] < whole.shape[0]
    difference = reduced(whole, size) - reduced(less, size)
    return 10 * math.log10(255**2 / (difference**2).mean()), np.abs(difference).mean()


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("size", [(260, 390), (150, 150), (72, 120)])
@pytest.mark.parametrize("seed", [0, 1])
def test_reducing_a_made_photograph_is_hardly_seen(seed, size, subsampling):
    data = encode(photo(1024, 1536, seed=seed), quality=90, subsampling=subsampling)
    ratio, mean = loss(data, size)
    assert ratio >= 50
    assert mean <= 0.3


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no photographs in {PHOTOGRAPHS}")
@pytest.mark.parametrize("name", ["10_right", "17_left", "458_left", "679_left"])
def test_reducing_a_real_photograph_is_hardly_seen(name):
    data = (PHOTOGRAPHS / f"{name}.jpeg").read_bytes()
    for size in ((512, 512), (333, 499), (224, 224)):
        ratio, mean = loss(data, size)
        assert ratio >= 50, size
        assert mean <= 0.3, size
