from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sightx.audit.file_facts import MODES, read_facts
from sightx.data.decode.decoder import FORMATS, BadImage
from support.images import encode, photo, raw_png


def test_facts_of_a_jpeg():
    facts = read_facts(encode(photo(), "JPEG", quality=90))
    assert (facts.width, facts.height, facts.frames, facts.bits) == (56, 40, 1, 8)
    assert FORMATS[facts.format - 1] == "JPEG"
    assert MODES[facts.mode] == "RGB"
    assert (facts.orientation, facts.is_progressive, facts.has_jfif) == (0, False, True)
    assert facts.bytes == len(encode(photo(), "JPEG", quality=90))


def test_lower_quality_means_larger_quantization():
    values = [read_facts(encode(photo(), "JPEG", quality=q)).quantization for q in (95, 85, 40)]
    assert values == sorted(values)
    tables = Image.open(io.BytesIO(encode(photo(), "JPEG", quality=40))).quantization
    assert values[-1] == np.mean(tables[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_facts(encode(photo(), "JPEG", exif=exif)).orientation == orientation


@pytest.mark.parametrize(
    ("data", "fact", "value"),
    [
        (encode(photo(), "JPEG", progressive=True), "is_progressive", True),
        (encode(Image.fromarray(photo()).convert("CMYK"), "JPEG"), "mode", MODES.index("CMYK")),
        (raw_png(1, 1, 16, 2, [b"\0" * 6]), "bits", 16),
        (encode(np.zeros((4, 4), np.uint16), "PNG"), "bits", 16),
        (encode(np.zeros((4, 4), np.uint16), "TIFF"), "bits", 16),
        (encode(photo(), "PPM"), "bits", 8),
        (b"P5 # grey\n1 1 65535\n\0\0", "bits", 16),
        (b"P4 8 1\n\0", "bits", 1),
        (encode(photo(), "BMP"), "bits", 8),
    ],
)
def test_what_is_unusual(data, fact, value):
    assert getattr(read_facts(data), fact) == value


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_frames_are_counted(kind):
    frames = [Image.fromarray(photo() + step).convert("P") for step in (0, 9, 30)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert read_facts(data).frames == (2 if kind == "PNG" else 3)
    assert read_facts(encode(photo(), kind)).frames == 1


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xd8\xff\xe0"])
def test_what_is_not_an_image_is_refused(data):
    with pytest.raises(BadImage):
        read_facts(data)
