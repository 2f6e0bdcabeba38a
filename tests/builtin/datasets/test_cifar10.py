from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import struct
import tarfile
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from sightx.builtin.datasets.cifar10 import BATCHES, CLASSES, FOLDER, Cifar10, read_batch
from sightx.errors import LINE_LIMIT, DataError, ResourceError

RNG = np.random.default_rng(0)


def content(count=20, order="C"):
    return {
        b"batch_label": b"training batch 1 of 5",
        b"labels": [int(label) for label in RNG.integers(0, 10, count)],
        b"data": np.asarray(RNG.integers(0, 256, (count, 3072), dtype=np.uint8), order=order),
        b"filenames": [b"leptodactylus_s_%06d.png" % number for number in range(count)],
    }


def expected(data):
    """Return the images as torchvision arranges them."""
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.fixture
def batch(tmp_path):
    def batch(data):
        path = tmp_path / "data_batch_1"
        path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol=2))
        return path

    return batch


@pytest.fixture
def published(tmp_path):
    """Write six small batches in the published layout; return their contents."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    contents = {name: content(4) for name in BATCHES}
    for name, data in contents.items():
        (folder / name).write_bytes(pickle.dumps(data, protocol=2))
    return contents


@pytest.fixture
def web(tmp_path):
    """Serve the test's folder; return its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# Batches


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol_is_read(batch, protocol, order):
    data = content(order=order)

    pixels, labels = read_batch(batch(pickle.dumps(data, protocol=protocol)))

    assert np.array_equal(pixels, expected(np.ascontiguousarray(data[b"data"])))
    assert pixels.dtype == np.uint8
    assert labels == data[b"labels"]


def test_read_only_arrays_and_text_keys_are_read(batch):
    data = {key.decode(): value for key, value in content().items()}
    data["data"].flags.writeable = False

    for protocol in (2, 4, 5):
        pixels, _ = read_batch(batch(pickle.dumps(data, protocol=protocol)))
        assert np.array_equal(pixels, expected(data["data"]))


def python2(data):
    """Return the opcodes that python 2 and its numpy wrote: every text a string of bytes."""

    def text(value):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"M" + struct.pack("<H", value)

    raw, labels = data[b"data"], data[b"labels"]
    dtype = (
        b"cnumpy\ndtype\nq\x04" + text(b"u1") + b"K\x00K\x01\x87q\x05Rq\x06"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
        b"K\x00\x85" + text(b"b") + b"\x87R("
        b"K\x01" + number(len(raw)) + number(3072) + b"\x86" + dtype + b"\x89"
    )
    array += text(raw.tobytes()) + b"tb"
    numbers = b"]q\x01(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    pairs = text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"x")
    return b"\x80\x02}q\x00(" + pairs + b"u."


def test_batches_of_python_2_are_read(batch):
    data = content()
    raw = python2(data)
    reference = pickle.loads(raw, encoding="bytes")  # Python reads the bytes of this test
    assert np.array_equal(reference[b"data"], data[b"data"])

    pixels, labels = read_batch(batch(raw))

    assert np.array_equal(pixels, expected(data[b"data"]))
    assert labels == data[b"labels"]


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_hostile_pickle_runs_nothing(batch, tmp_path, protocol):
    marker = tmp_path / "ran"
    payload, hidden = Payload(marker), {**content(), b"more": Payload(marker)}

    for evil in (payload, hidden):
        with pytest.raises(DataError) as caught:
            read_batch(batch(pickle.dumps(evil, protocol=protocol)))
        assert caught.value.problems[0].code == "bad-batch"
        assert len(str(caught.value)) <= LINE_LIMIT
    assert not marker.exists()
    pickle.loads(pickle.dumps(payload, protocol=protocol))
    assert marker.exists()  # the payload works where pickle is used


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"<html>",
        b"\x80\x02}",
        b"\x80\x02].",
        b"\x80\x02u.",
        b"\x80\x02(u.",
        b"\x80\x02h\x07.",
        b"\x80\x02Nr\xff\xff\xff\xff.",  # the 4,294,967,295th memo
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 2**63 - 1 bytes
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02cnumpy\nndarray\nN}\x8c\x01x]s\x86b.",  # attributes of a function
        b"\x80\x02\x87.",
        b"\x80\x02NNR.",
        b"\x80\x02}]N\x86b.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"\x80\x02}(U\x04dataNU\x06labels]u.",
        pickle.dumps({b"labels": [1]}),
        pickle.dumps(content())[:-900],
        pickle.dumps({**content(), b"labels": [1]}),
        pickle.dumps({**content(1), b"labels": [10]}),
        pickle.dumps({**content(1), b"labels": [-1]}),
        pickle.dumps({**content(1), b"labels": ["1"]}),
        pickle.dumps({**content(1), b"data": np.zeros((1, 3072), np.float32)}),
        pickle.dumps({**content(1), b"data": [0] * 3072}),
    ],
)
def test_other_files_are_refused_in_one_line(batch, raw):
    path = batch(raw)
    with pytest.raises(DataError) as caught:
        read_batch(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: error[bad-batch]")
    assert "\n" not in line
    assert len(line) <= LINE_LIMIT


# The table


def test_five_batches_are_for_training_and_one_for_testing(published, tmp_path):
    for root in (tmp_path, tmp_path / FOLDER):
        table = Cifar10(root=root).table()

        pixels = np.concatenate([expected(data[b"data"]) for data in published.values()])
        assert np.array_equal(np.stack([table.read(index) for index in range(24)]), pixels)
        assert table.labels.tolist() == [n for data in published.values() for n in data[b"labels"]]
        assert table.frame["split"].tolist() == ["train"] * 20 + ["test"] * 4
        assert table.frame["path"].iloc[[0, 23]].tolist() == [
            "data_batch_1/00000",
            "test_batch/00003",
        ]
        assert table.classes == CLASSES == Cifar10(root=root).traits().classes


def test_the_images_are_in_memory_once(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    data = pickle.dumps(content(2000), protocol=4)
    for name in BATCHES:
        (folder / name).write_bytes(data)
    tracemalloc.start()

    table = Cifar10(root=tmp_path).table()

    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = len(table) * 3072
    assert current < 1.25 * size
    assert peak < 1.75 * size  # and a batch while it is read


def test_missing_batches_are_named_with_a_way_to_get_them(published, tmp_path):
    (tmp_path / FOLDER / "data_batch_4").unlink()

    for root in (tmp_path, tmp_path / "nowhere", Path("@cifar")):
        with pytest.raises(
            DataError, match=r"\[missing-data\] dataset\.root.*kriz/cifar"
        ) as caught:
            Cifar10(root=root).table()
        assert len(str(caught.value)) <= LINE_LIMIT
    with pytest.raises(DataError, match="no data_batch_4"):
        Cifar10(root=tmp_path).table()


@pytest.fixture
def archive(published, tmp_path, web, monkeypatch):
    """Serve the published batches as an archive, and return it."""
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / FOLDER, FOLDER)
    monkeypatch.setattr(CIFAR10, "url", f"{web}/{archive.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


# torchvision before 0.27 unpacks as Python 3.14 no longer will.
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_the_archive_is_downloaded_and_verified(archive, tmp_path):
    table = Cifar10(root=tmp_path / "fresh", download=True).table()

    assert len(table) == 24
    archive.write_bytes(b"something else")
    for root in ("other", "another"):
        with pytest.raises(ResourceError, match="no-download"):
            Cifar10(root=tmp_path / root, download=True).table()
        archive.unlink(missing_ok=True)


def test_nothing_is_downloaded_to_an_unset_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match="@cifar is not set"):
        Cifar10(root=Path("@cifar"), download=True).table()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_a_download_replaces_no_file(archive, tmp_path):
    root = tmp_path / "mine"
    shutil.copytree(tmp_path / FOLDER, root / FOLDER)
    (root / FOLDER / "data_batch_2").unlink()
    (root / FOLDER / "batches.meta").write_text("mine")
    (root / archive.name).write_text("mine")

    assert len(Cifar10(root=root, download=True).table()) == 24

    assert (root / FOLDER / "batches.meta").read_text() == "mine"
    assert (root / archive.name).read_text() == "mine"
    assert sorted(path.name for path in root.iterdir()) == [FOLDER, archive.name]
