"""The dataset `shards`: on disk, over HTTP, in training."""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import sightx
from sightx import DataError
from sightx.builtin.datasets.shards import Shards
from sightx.export import storage
from sightx.export.shards import write_shards
from sightx.plugin import Traits

pytest.importorskip("aiohttp", reason="it comes with the extra shards")

CLASSES = ("dark", "light")


class Handler(SimpleHTTPRequestHandler):
    """Serve files, and parts of them; refuse the requests that the test chooses."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, name = self.server, Path(self.path).name
        server.asked[name] += 1
        if status := server.refuse(name, server.asked[name]):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = Path(self.directory, name)
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match and server.ranges:
            start, end = map(int, match.groups())
            content, status = content[start : end + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
            server.sent += len(content)
        except OSError:  # a client that cannot use all of it hangs up
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def written(spec, tmp_path):
    """The images of `folders` in shards of at most 20,480 bytes."""
    write_shards(sightx.load(spec), tmp_path / "shards", tmp_path / "bad", shard_size=20_480)
    return tmp_path / "shards"


@pytest.fixture
def server(written):
    """Serve the shards on a port of this machine."""

    def handler(*arguments):
        return Handler(*arguments, directory=str(written))

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked, server.ranges, server.sent = Counter(), True, 0
    server.refuse = lambda name, times: 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(storage, "_RETRY_PAUSES", (0.01, 0.01, 0.01))


def opened(root, **settings):
    return Shards(root=str(root), classes=CLASSES, split=True, **settings).table()


def test_traits_are_the_settings():
    dataset = Shards(root="@nowhere", classes=CLASSES, groups=True, ordered=True, handed=True)
    assert dataset.traits() == Traits(CLASSES, True, has_groups=True, handed=True)
    assert Shards(root="@nowhere", split=True).traits() == Traits(has_split=True)


def test_a_url_stays_a_url(write_spec, written, tmp_path):
    model = '\n[model]\nuse = "simplenet"\n'
    for root, found in {
        "https://a.org/b": "https://a.org/b",
        "s3://bucket/b": "s3://bucket/b",
        "shards": str(tmp_path / "shards"),
        "@gone/b": "@gone/b",
    }.items():
        path = write_spec(f'name = "a"\n[dataset]\nuse = "shards"\nroot = "{root}"{model}')
        experiment = sightx.load(path)
        assert experiment.dataset.root == found
        other = sightx.load(path, ["dataset.root=elsewhere"])
        assert other.id == experiment.id  # where a machine keeps data is not a part of it


def test_images_are_read_over_http_in_parts(spec, written, server):
    original = sightx.load(spec).dataset.table()
    table = opened(server.url)
    assert table.frame["sha256"].tolist() == opened(written).frame["sha256"].tolist()
    server.sent = 0
    assert [table.read(index) for index in range(48)] == [original.read(n) for n in range(48)]
    assert server.sent == sum(len(original.read(index)) for index in range(48))


def test_forked_workers_read_over_http(spec, server):
    original, table = sightx.load(spec).dataset.table(), opened(server.url)
    assert table.read(0) == original.read(0)  # the parent's connections are open
    context = multiprocessing.get_context("fork")
    parent, child = context.Pipe()
    worker = context.Process(target=lambda: child.send_bytes(table.read(40)))
    worker.start()
    assert parent.poll(20)
    assert parent.recv_bytes() == original.read(40)
    worker.join()


def test_a_busy_server_is_asked_again(server):
    table = opened(server.url)
    server.asked.clear()
    server.refuse = lambda name, times: 503 if times < 3 else 0
    assert table.read(0)
    assert server.asked == {"shard-000000.tar": 3}


@pytest.mark.parametrize(("status", "attempts"), [(500, 4), (404, 1), (403, 1)])
def test_a_server_that_does_not_answer_is_an_error(server, status, attempts):
    table = opened(server.url)
    server.asked.clear()
    server.refuse = lambda name, times: status
    with pytest.raises(DataError, match=r"shard-000000.tar, 00000003 cannot be read") as caught:
        table.read(3)
    assert caught.value.problems[0].code == "unreachable"
    assert server.asked == {"shard-000000.tar": attempts}


def test_a_server_without_range_requests_is_refused(written, server):
    server.ranges = False
    table = opened(server.url)
    (written / "shard-000000.tar").write_bytes(bytes(50_000_000))
    server.sent = 0
    with pytest.raises(DataError, match="sends no parts of files; use one with HTTP Range"):
        table.read(3)
    assert server.asked["shard-000000.tar"] == 1
    assert server.sent == 0


def test_no_shards_and_no_server(server, written):
    (written / "shards.json").unlink()
    with pytest.raises(DataError, match=r"no shards\.json") as caught:
        opened(server.url)
    assert caught.value.problems[0].file == server.url
    with pytest.raises(DataError, match=r"unreachable.*shards.json cannot be read"):
        opened("http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["shards.json", "index.csv"])
def test_a_server_cannot_fill_the_memory(server, written, monkeypatch, name):
    limit = (written / name).stat().st_size
    monkeypatch.setitem(storage._URL_LIMITS, name, limit)
    assert len(opened(server.url)) == 48
    monkeypatch.setitem(storage._URL_LIMITS, name, limit - 1)
    with pytest.raises(DataError, match=rf"{name} cannot be read: has more than"):
        opened(server.url)
    assert server.asked[name] == 2  # a file does not shrink


def test_an_object_store_is_read_in_parts(spec, written):
    from fsspec.implementations.memory import MemoryFileSystem

    store = MemoryFileSystem()
    for path in written.iterdir():
        store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    original = sightx.load(spec).dataset.table()
    table = opened("memory://bucket")
    assert [table.read(index) for index in range(48)] == [original.read(n) for n in range(48)]
    store.rm("/bucket", recursive=True)


def test_groups_stay_in_one_split_and_extra_columns_are_kept(folders, write_spec, tmp_path):
    paths = sorted(path.relative_to(folders).as_posix() for path in folders.rglob("*.png"))
    lines = [f"{path},{path.split('/')[1]},p{n // 3},0{n % 2}" for n, path in enumerate(paths)]
    (folders / "labels.csv").write_text("\n".join(["image,label,group,size", *lines, ""]))
    settings = 'use = "csv"\nroot = "data"\ngroup = "group"\nextra_columns = ["size"]\n'
    settings += '[model]\nuse = "simplenet"\n'
    before = sightx.load(write_spec(f'name = "grouped"\n[dataset]\n{settings}'))
    write_shards(before, tmp_path / "out", tmp_path / "bad")
    after = sightx.load(tmp_path / "out" / "spec.toml")
    assert after.split.name == "grouped"
    table = sightx.table(after)
    frame = table.frame
    assert table.columns == ("size",)  # which is also the name of a column of the index
    assert frame["size"].tolist() == [f"0{n % 2}" for n in range(48)]
    assert frame["group"].nunique() == 16
    assert (frame.groupby("group")["split"].nunique() == 1).all()
    assert frame["split"].tolist() == sightx.table(before).frame["split"].tolist()


def outcome(run):
    """Return what must not depend on how images are stored."""
    weights = (run.checkpoint() / "model.safetensors").read_bytes()
    keys = [key for key in run.result if key not in ("seconds",)]
    times = [name for name in run.metrics if name.startswith(("seconds", "images", "data_wait"))]
    return (
        weights,
        {key: run.result[key] for key in keys},
        run.metrics.drop(columns=times).to_dict("list"),
        run.predictions("test").to_dict("list"),
        run.data["id"],
    )


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_training_is_the_same_as_from_the_folder(spec, written, server, tmp_path, cache):
    options = [f'execution.cache="{cache}"', 'execution.device="cpu"']
    folder = sightx.run(sightx.load(spec, options), runs=tmp_path / "a")
    disk = sightx.run(sightx.load(written / "spec.toml", options), runs=tmp_path / "b")
    assert outcome(disk) == outcome(folder)
    if cache == "off":
        remote = sightx.load(written / "spec.toml", [*options, f'dataset.root="{server.url}"'])
        assert outcome(sightx.run(remote, runs=tmp_path / "c")) == outcome(folder)
        assert sum(server.asked.values()) > 48 * 2  # two epochs without a cache


def test_a_resumed_run_equals_an_uninterrupted_one(written, tmp_path):
    options = ['execution.device="cpu"', 'checkpoint=[{ use = "last" }]']
    whole = sightx.run(sightx.load(written / "spec.toml", options), runs=tmp_path / "a")
    first = sightx.load(written / "spec.toml", [*options, "training.epochs=1"])
    run = sightx.run(first, runs=tmp_path / "b")
    assert outcome(run) != outcome(whole)
    assert outcome(sightx.resume(run, changes=["training.epochs=2"]))[:1] == outcome(whole)[:1]
