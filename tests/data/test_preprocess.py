from __future__ import annotations

import _thread
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sightx.builtin.preprocess import CenterCrop, Grayscale, Resize
from sightx.data.cache.file_hashes import stat_files
from sightx.data.dataset import CacheConfig, PreprocessJob, load_or_build
from sightx.data.decode.decoder import BadImage
from sightx.data.preprocess import Preprocessor, decode_pool, output_shape, preprocess_image
from sightx.errors import PluginError, SpecError
from sightx.io.files import file_reader
from sightx.records.table import ImageTable
from sightx.registry.components import Shape
from sightx.registry.kinds import Preprocess

CHAIN = (Resize(size=(6, 5)),)


def build(table, chain, threads=0, progress=None):
    config = CacheConfig("disk", threads=threads)
    return load_or_build(PreprocessJob(table, chain), config, progress)


def memory_table(count, read=None, size=12):
    """Return a table of arrays, or of what `read` makes of an index."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    frame = pd.DataFrame({"path": [f"{i}.png" for i in range(count)], "label": 0, "group": ""})
    return ImageTable(frame.assign(line=range(2, count + 2)), ("x",), read or images.__getitem__)


@pytest.fixture
def files(folders):
    paths = sorted(path.relative_to(folders).as_posix() for path in folders.rglob("*.png"))
    frame = pd.DataFrame({"path": paths, "label": 0, "group": ""})
    return ImageTable(frame, ("x",), file_reader(folders, paths), root=folders, source="l.csv")


@pytest.mark.parametrize("threads", [1, 2, 4, 0])
def test_the_number_of_threads_changes_nothing(files, threads):
    (files.root / files.frame["path"][7]).write_bytes(b"<html>")

    found = build(files, CHAIN, threads=threads)

    expected = torch.zeros(48, 3, 6, 5, dtype=torch.uint8)
    for index in range(48):
        if index != 7:
            expected[index] = preprocess_image(files.read(index), CHAIN)
    whole = np.delete(np.arange(48), 7)
    assert torch.equal(found.rows.gather(whole), expected[whole])
    assert found.rows.index[7] == -1
    assert list(found.hashes) == [
        hashlib.sha256(files.read(i)).hexdigest() if i != 7 else "" for i in range(48)
    ]
    assert found.bad == {7: "not an image"}


def test_pixels_of_arrays_are_read_and_left_alone():
    class Darken(Preprocess):
        name = "darken"

        def apply(self, image):
            return image.div_(2, rounding_mode="floor")

    table = memory_table(3)
    before = np.stack([table.read(index) for index in range(3)])

    found = build(table, (Darken(), CenterCrop(size=12)))

    rows = found.rows.gather(np.arange(3))
    assert np.array_equal(rows.numpy(), before.transpose(0, 3, 1, 2) // 2)
    assert np.array_equal(np.stack([table.read(index) for index in range(3)]), before)


def test_digests_tell_shapes_apart():
    image = np.arange(48, dtype=np.uint8)
    shapes = [image.reshape(2, 8, 3), image.reshape(4, 4, 3)]

    one, other = build(memory_table(2, shapes.__getitem__), CHAIN).hashes

    assert one != other


def test_views_and_read_only_arrays_are_read():
    image = np.frombuffer(bytes(range(48)), np.uint8).reshape(3, 4, 4).transpose(1, 2, 0)

    assert np.array_equal(preprocess_image(image, ()).numpy(), image.transpose(2, 0, 1))


def test_progress_is_reported_in_the_calling_thread():
    heard = []

    build(
        memory_table(9),
        CHAIN,
        threads=4,
        progress=lambda *n: heard.append((*n, threading.current_thread())),
    )

    assert heard == [(n, 9, threading.current_thread()) for n in range(1, 10)]


def test_torch_has_its_threads_again():
    before = torch.get_num_threads()

    with decode_pool(3) as pool:
        inside = {pool.submit(torch.get_num_threads) for _ in range(20)}

    assert {one.result() for one in inside} == {1}
    assert torch.get_num_threads() == before


HUNGRY = """
import threading
from sightx.data.preprocess import decode_pool
start, started = threading.Thread.start, []
def refuse(thread):
    started.append(thread)
    if len(started) == 3:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
try:
    decode_pool(4)
except RuntimeError as error:
    print(error, flush=True)
"""


def test_a_machine_without_threads_ends_the_process():
    """It would wait for ever at its exit, for threads that wait for one that never came."""
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("can't start new thread\n", "")


def test_an_interrupt_does_not_wait_for_the_rest(request):
    read = []

    def slow(index):
        read.append(index)
        time.sleep(0.002)
        if index == 10:
            _thread.interrupt_main()
        return np.zeros((4, 4, 3), np.uint8)

    # A shell's background job is born deaf to SIGINT; the test must not be.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        build(memory_table(2000, slow), CHAIN, threads=2)

    assert len(read) < 200


def test_a_failure_of_progress_does_not_wait_for_the_rest():
    read = []

    def slow(index):
        read.append(index)
        time.sleep(0.001)
        return np.zeros((4, 4, 3), np.uint8)

    def broken(done, of):
        raise RuntimeError("the terminal has gone")

    with pytest.raises(RuntimeError, match="terminal"):
        build(memory_table(2000, slow), CHAIN, threads=2, progress=broken)

    assert len(read) < 200


def test_few_images_are_made_before_they_are_asked_for():
    read = []

    def remember(index):
        read.append(index)
        return np.zeros((4, 4, 3), np.uint8)

    with closing(
        Preprocessor(memory_table(5000, remember), CHAIN).process_all(np.arange(5000), 2)
    ) as images:
        assert [next(images).index for _ in range(3)] == [0, 1, 2]

    assert len(read) < 500


def test_images_that_are_not_needed_are_not_decoded():
    table = memory_table(3, lambda index: b"no image")
    digest = hashlib.sha256(b"no image").digest()

    found = list(
        Preprocessor(table, CHAIN, is_needed=lambda known: known != digest).process_all(
            np.arange(3), 1
        )
    )

    assert [(made.digest, made.row, made.reason) for made in found] == [(digest, None, "")] * 3


def test_content_that_a_dataset_knows_is_compared():
    table = memory_table(3, lambda index: b"no image")
    good, other = hashlib.sha256(b"no image").hexdigest(), hashlib.sha256(b"").hexdigest()
    table = table.with_frame(table.frame.assign(sha256=[good, other, ""]))

    found = build(table, CHAIN)

    assert found.bad == {
        0: "not an image",
        1: "its content is not what the dataset's index says",
        2: "not an image",
    }


# Components that fail


class Broken(Preprocess):
    name = "broken"

    def apply(self, image):
        return image + "a" if int(image[0, 0, 0]) == 3 else image


def brightness(index):
    return np.full((4, 4, 3), index, np.uint8)


def test_a_bug_in_a_component_names_component_image_and_row():
    with pytest.raises(PluginError) as caught:
        build(memory_table(5, brightness), (Broken(), *CHAIN))

    (problem,) = caught.value.problems
    assert (problem.code, problem.path, problem.line) == (
        "preprocess-failed",
        "preprocess.broken",
        5,
    )
    assert problem.message.startswith("3.png: TypeError")
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    "wrong",
    [lambda image: image.float(), lambda image: image[:1], lambda image: image[0], lambda _: None],
)
def test_a_component_must_return_the_declared_shape(wrong):
    class Wrong(Preprocess):
        name = "wrong"

        def apply(self, image):
            return wrong(image)

    with pytest.raises(PluginError, match=r"preprocess\.wrong: 0\.png: "):
        build(memory_table(1, brightness), (*CHAIN, Wrong()))


def test_a_bug_in_a_reader_names_the_image():
    def read(index):
        return brightness(index) if index != 2 else {}["x"]

    with pytest.raises(PluginError, match=r"\[read-failed\] dataset: 2\.png: KeyError"):
        build(memory_table(5, read), CHAIN)


def test_a_reader_returns_bytes_or_an_array():
    with pytest.raises(PluginError, match=r"dataset: 0\.png: TypeError: read\(\) returned a list"):
        build(memory_table(2, lambda index: [1]), CHAIN)


def test_a_reader_must_return_uint8_pixels():
    found = build(memory_table(1, lambda _: np.zeros((4, 4), np.float32)), CHAIN)

    assert found.bad == {
        0: "pixels are float32 (4, 4), not uint8 (H, W, 3): scale and select them in the dataset"
    }


def test_a_lack_of_memory_does_not_make_an_image_bad():
    def read(index):
        raise MemoryError

    with pytest.raises(MemoryError):
        build(memory_table(2, read), CHAIN)


# Shapes


def test_a_chain_ends_in_one_size():
    assert output_shape((Resize(size=(6, 5)), Grayscale(channels=1))) == (1, 6, 5)
    for chain in ((), (Grayscale(),)):
        with pytest.raises(SpecError, match="no-size"):
            output_shape(chain)


def test_a_chain_may_begin_with_images_of_one_size():
    assert output_shape((), (3, 8, 9)) == (3, 8, 9)
    assert output_shape((Grayscale(channels=1),), (3, 8, 9)) == (1, 8, 9)


def test_one_channel_is_kept():
    found = build(memory_table(2), (*CHAIN, Grayscale(channels=1)))

    assert found.rows.gather(np.arange(2)).shape == (2, 1, 6, 5)
    assert Grayscale(channels=1).shape(Shape(3, 6, 5)) == (1, 6, 5)


# Files that are not there


def test_absent_files_are_found_without_opening_any(files, tmp_path):
    (tmp_path / "secret.png").write_bytes((files.root / files.frame["path"][0]).read_bytes())
    names = files.frame["path"]
    for index in (1, 2, 3, 4):
        (files.root / names[index]).unlink()
    (files.root / names[2]).mkdir()
    (files.root / names[3]).symlink_to(tmp_path / "secret.png")
    os.mkfifo(files.root / names[4])
    (files.root / names[5]).write_bytes(b"")  # only reading tells

    found = stat_files(files).errors

    reasons = ["missing", "not a file", "leads out of the folder of images", "not a file"]
    assert found == dict(enumerate(reasons, start=1))
    assert build(files, CHAIN).bad == {**found, 5: "empty file"}


def test_a_table_without_files_has_none_absent():
    assert stat_files(memory_table(3)).errors == {}


# Untrusted files


def encoded(form, size=(8, 6)):
    file = io.BytesIO()
    Image.new("RGB", size, (9, 9, 9)).save(file, form)
    return file.getvalue()


def test_formats_and_pixels_can_be_limited():
    limits = {"formats": ("JPEG", "PNG"), "pixel_limit": 48}

    assert preprocess_image(encoded("PNG"), CHAIN, **limits).shape == (3, 6, 5)
    assert preprocess_image(encoded("JPEG"), CHAIN, **limits).shape == (3, 6, 5)
    for form in ("GIF", "BMP", "TIFF", "WEBP", "PPM"):
        assert preprocess_image(encoded(form), CHAIN).shape == (3, 6, 5)
        with pytest.raises(BadImage, match="not an image"):
            preprocess_image(encoded(form), CHAIN, **limits)
    with pytest.raises(BadImage, match=r"1 Mpx > limit 4\.8e-05 Mpx"):
        preprocess_image(encoded("PNG", (7, 7)), CHAIN, **limits)
