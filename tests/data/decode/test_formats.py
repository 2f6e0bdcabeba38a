from __future__ import annotations

import pytest

from sightx.data.decode.decoder import BadImage, decode
from sightx.data.decode.formats import SIGNATURES, format_of, read_format
from support.images import encode, photo

UNSUPPORTED = [
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
    (b"\0\0\0\x1cftypavif", "AVIF"),
    (b"\0" * 128 + b"DICM\2\0", "DICOM"),
    (b"\0\0\0\x18ftypcrx ", "camera raw"),
    (b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
    (b"FUJIFILMCCD-RAW 0201", "camera raw"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x0a\xfa\x7f", "JPEG XL"),
    (b"II+\0\x08\0\0\0", "BigTIFF"),
    (b"8BPS\0\1", "Photoshop"),
    (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
    (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg>', "SVG"),
    (b"\0" * 344 + b"n+1\0", "NIfTI"),
]


@pytest.mark.parametrize(("data", "name"), UNSUPPORTED)
def test_known_formats_that_are_not_supported_are_named(data, name):
    assert format_of(data) == (name, False)
    with pytest.raises(BadImage, match=f"^{name} is not supported$"):
        decode(data + b"\0" * 600)


@pytest.mark.parametrize("kind", SIGNATURES)
def test_supported_formats_are_known_by_their_first_bytes(tmp_path, kind):
    (tmp_path / "x.txt").write_bytes(encode(photo(), kind))
    assert read_format(tmp_path / "x.txt") == (kind, True)


@pytest.mark.parametrize(
    "text", ["BMI,age\n1,2\n", "P1 is a patient", "P6\n", "", "image,label", "<svgfont>"]
)
def test_text_is_not_an_image(tmp_path, text):
    (tmp_path / "x").write_text(text)
    assert read_format(tmp_path / "x") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.NEF", "camera raw"),
        ("a.dcm", "DICOM"),
        ("a.heif", "HEIC"),
        ("a.avif", "AVIF"),
        ("a.nii.gz", "NIfTI"),
        ("a.TGA", "TGA"),
    ],
)
def test_endings_tell_where_bytes_do_not(tmp_path, name, expected):
    (tmp_path / name).write_bytes(b"II*\0" if name.endswith("NEF") else b"x")
    assert read_format(tmp_path / name) == (expected, False)


def test_what_cannot_be_read_has_no_format(tmp_path):
    assert read_format(tmp_path) is None
    assert read_format(tmp_path / "nothing") is None
