import io
import pickle
import random
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightx.data.decode.decoder import BadImage, decode, to_tensor
from support.images import encode, photo, raw_png

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "data"


def reason(data, **options):
    with pytest.raises(BadImage) as caught:
        decode(data, **options)
    return caught.value.reason


@cache
def sample_set():
    pixels = photo()
    alpha = np.dstack([pixels, pixels[..., 0]])
    return {
        "jpeg": encode(pixels, "JPEG"),
        "progressive": encode(pixels, "JPEG", progressive=True),
        "png": encode(pixels, "PNG"),
        "rgba": encode(alpha, "PNG"),
        "bmp": encode(pixels, "BMP"),
        "tiff": encode(pixels, "TIFF"),
        "tiff-lzw": encode(pixels, "TIFF", compression="tiff_lzw"),
        "webp": encode(pixels, "WEBP"),
        "gif": encode(Image.fromarray(pixels).quantize(64), "GIF"),
        "ppm": encode(pixels, "PPM"),
    }


@pytest.mark.parametrize("name", sorted(sample_set().keys() - {"rgba"}))
def test_an_ordinary_file_decodes_as_pillow_does_bit_for_bit(name):
    data = sample_set()[name]

    pixels = decode(data)

    assert np.array_equal(pixels, np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_to_tensor_is_channels_first_on_the_same_memory():
    pixels = photo()

    tensor = to_tensor(pixels)

    assert tuple(tensor.shape) == (3, 40, 56)
    assert tensor.data_ptr() == pixels.ctypes.data
    assert np.array_equal(tensor.numpy(), pixels.transpose(2, 0, 1))


def test_importing_the_decoder_does_not_import_torch():
    code = "import sys, sightx.data.decode.decoder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


# D14: damaged files


@pytest.mark.parametrize("name", sorted(sample_set()))
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_cut_file_is_truncated(name, share):
    data = sample_set()[name]
    length = max(int(len(data) * share), 12)

    assert reason(data[:length]) == "truncated"


def test_a_jpeg_is_cut_at_the_shares_of_d14():
    data = encode(photo(400, 560), "JPEG")

    found = [reason(data[: int(len(data) * share)]) for share in (0, 0.001, 0.01, 0.5, 0.999)]

    assert found == ["empty file"] + ["truncated"] * 4


def test_a_cut_jpeg_is_truncated_although_its_thumbnail_ends():
    block = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0) + encode(photo(16, 16), "JPEG")
    data = encode(photo(), "JPEG", exif=block)
    assert decode(data).shape == (40, 56, 3)

    assert reason(data[:-2]) == "truncated"


@pytest.mark.parametrize("tail", [b"\0" * 512, b"\n", b"a film of a camera's own" * 300])
def test_bytes_after_the_end_are_ignored(tail):
    for data in (encode(photo(), "JPEG"), encode(photo(), "PNG")):
        assert np.array_equal(decode(data + tail), decode(data))


def test_the_first_frame_of_a_multi_picture_jpeg_is_read():
    frames = [Image.fromarray(photo()), Image.fromarray(photo()[::-1])]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])

    assert np.array_equal(decode(data), decode(encode(frames[0], "JPEG")))


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,  # FlashPix
        b"\0",
    ],
)
def test_unknown_formats_are_not_images(data):
    assert reason(data) == "not an image"


def with_tag(tiff, tag, kind, count, value):
    """Replace the tag Software (305) of a little-endian TIFF."""
    at = tiff.index(struct.pack("<H", 305), struct.unpack_from("<I", tiff, 4)[0])
    return tiff[:at] + struct.pack("<HHII", tag, kind, count, value) + tiff[at + 12 :]


def test_a_raw_file_that_begins_with_a_thumbnail_is_not_supported():
    tiff = encode(Image.fromarray(photo()), "TIFF", software="s" * 20)
    assert reason(with_tag(tiff, 0xC612, 1, 4, 0x0401)) == "camera raw is not supported"  # DNG


# Metadata that nobody uses never makes an image bad


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_large_profiles_and_exif_do_not_make_an_image_bad(kind):
    options = {"icc_profile": b"x" * 3_000_000}
    if kind != "TIFF":
        options |= {"exif": b"Exif\0\0broken"}
    if kind == "WEBP":
        options |= {"lossless": True, "xmp": b"x" * 100_000}
    plain = encode(photo(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(encode(photo(), kind, **options)), decode(plain))


@pytest.mark.parametrize("tag", [270, 305, 700, 33723, 34377, 34665, 34675, 34853])
def test_truncated_metadata_of_a_tiff_does_not_make_it_bad(tag):
    tiff = encode(Image.fromarray(photo()), "TIFF", software="s" * 20)
    assert np.array_equal(decode(with_tag(tiff, tag, 7, 99_999_999, 0x7FFFFFF0)), photo())


def test_a_truncated_tag_of_a_tiff_that_matters_is_an_error():
    tiff = encode(Image.fromarray(photo()), "TIFF", software="s" * 20)
    assert reason(with_tag(tiff, 279, 4, 99_999_999, 0x7FFFFFF0)) == "truncated"


def test_a_caller_narrows_the_formats():
    narrow = {"formats": ("JPEG", "PNG")}

    assert reason(sample_set()["tiff"], **narrow) == "not an image"
    assert np.array_equal(decode(sample_set()["png"], **narrow), photo())


def phrase(data):
    """Return why an image is refused, nothing where it is read."""
    try:
        assert decode(data).shape[2] == 3
    except BadImage as error:
        return error.reason
    return ""


def test_only_bad_images_leave_the_decoder():
    draw = random.Random(5)
    files = sorted(sample_set().items())
    for _ in range(300):
        data = bytearray(draw.choice(files)[1])
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
        found = phrase(bytes(data))
        assert len(found) <= 80
        assert "0x" not in found


def test_a_bad_image_survives_the_way_from_a_worker():
    assert pickle.loads(pickle.dumps(BadImage("truncated"))).reason == "truncated"


# D19: pixel bombs


@cache
def bombs():
    jpeg, gif = encode(photo(), "JPEG"), encode(Image.new("P", (64, 48)), "GIF")
    at, huge = jpeg.index(b"\xff\xc0") + 5, struct.pack(">2H", 13000, 13000)
    frame = struct.pack("<4H", 0, 0, 64, 48)
    assert gif.count(frame) == 1
    tiff = encode(Image.new("L", (64, 48)), "TIFF")
    for tag, size in ((256, 64), (257, 48)):
        tiff = tiff.replace(*(struct.pack("<HHII", tag, 4, 1, n) for n in (size, 13000)))
    webp = bytearray(encode(photo(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 12999 | 12999 << 14)
    return {
        "png": raw_png(13000, 13000, 1, 0, [bytes(1625)] * 13000),
        "png header": raw_png(13000, 13000, 8, 2, []),
        "jpeg": jpeg[:at] + huge + jpeg[at + 4 :],
        "jpeg header": jpeg[:at] + huge + jpeg[at + 4 : jpeg.index(b"\xff\xda")],
        "bmp": b"BM" + bytes(8) + struct.pack("<2I2i2H24x", 54, 40, 13000, 13000, 1, 24),
        "gif screen": gif[:6] + struct.pack("<2H", 13000, 13000) + gif[10:],
        "gif frame": gif.replace(frame, struct.pack("<4H", 0, 0, 13000, 13000)),
        "tiff": tiff,
        "webp": bytes(webp),
        "ppm": b"P6 13000 13000 255\n",
    }


@pytest.mark.parametrize("name", sorted(bombs().keys()))
def test_a_pixel_bomb_is_refused_from_its_header(name):
    assert reason(bombs()[name]) == "169 Mpx > limit 40 Mpx"


@pytest.mark.parametrize("size", [(65535, 2700), (1, 178_000_000), (20_000, 20_000)])
def test_the_limit_decides_and_not_the_guard_of_pillow(size):
    data = raw_png(*size, 8, 0, [])

    assert reason(data).endswith("Mpx > limit 40 Mpx")
    assert reason(encode(photo(), "PNG"), pixel_limit=40 * 56 - 1) == "1 Mpx > limit 0.002239 Mpx"
    assert decode(encode(photo(), "PNG"), pixel_limit=40 * 56).shape == (40, 56, 3)


CHILD = """
import sys
from sightx.data.decode.decoder import BadImage, decode

def peak():  # of this program; ru_maxrss would start at the peak of the one that started it
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

for name in sys.argv[1:]:
    data, before = open(name, "rb").read(), peak()
    try:
        decode(data)
    except BadImage as error:
        assert error.reason == "169 Mpx > limit 40 Mpx", error.reason
    assert peak() - before < 20_000, (name, peak() - before)
before = peak()
bytearray(b"x") * 50_000_000
assert peak() - before > 20_000, "the measure sees nothing"
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs VmHWM of Linux")
def test_a_decompression_bomb_is_refused_without_memory(tmp_path):
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
    assert (tmp_path / "png").stat().st_size < 30_000

    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        "-c",
        CHILD,
        *map(str, tmp_path.iterdir()),
    ]
    subprocess.run(command, cwd=ROOT, check=True)


# Threads, and real photographs


def test_threads_decode_as_one_thread_does():
    files = [*sample_set().values()] * 16
    alone = [decode(data) for data in files]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(decode, files))

    assert all(map(np.array_equal, alone, together))


@pytest.mark.skipif(not REAL.exists(), reason="needs the photographs in ../shared/data")
@pytest.mark.parametrize(("folder", "count"), [("eyepacs-fullres", 10), ("eyepacs256", 50)])
def test_real_photographs_decode_as_pillow_does(folder, count):
    paths = sorted((REAL / folder / "images").iterdir())[:count]
    assert len(paths) == count

    def equal(path):
        with Image.open(path) as image:
            return np.array_equal(decode(path.read_bytes()), np.asarray(image.convert("RGB")))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(equal, paths))
