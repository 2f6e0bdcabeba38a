"""The server, with a plain client: what it answers, and what it refuses."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightx.board.server import PAGE, Server, page_file
from sightx.errors import ResourceError
from sightx.io import toml
from sightx.io.files import file_sha256

ID = "20260131-000000-little"
VENDOR = Path(__file__).parents[2] / "sightx" / "board" / "vendor"


@pytest.fixture
def server(make_runs: Callable[[int], Path]) -> Iterator[Server]:
    with Server(make_runs(20), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Server, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_a_question_is_answered_again_only_if_something_has_changed(server: Server) -> None:
    answer = get(server, "/api/runs?where=seed%3D1&sort=accuracy", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    listing = json.loads(gzip.decompress(answer.body))
    assert listing["matching"] == 4
    tag = answer.headers["ETag"]
    same = get(server, "/api/runs?where=seed%3D1&sort=accuracy", If_None_Match=tag)
    assert same.status == 304
    size = len(f"HTTP/1.1 {same.status} {same.reason}\r\n{same.headers.as_string()}")
    assert size + len(same.body) < 300
    assert get(server, "/api/runs?where=seed%3D2&sort=accuracy", If_None_Match=tag).status == 200
    (server.root / ID / "about.json").write_text('{"tags": ["x"]}')
    assert get(server, "/api/runs?where=seed%3D1&sort=accuracy", If_None_Match=tag).status == 200


def test_a_wrong_filter_is_refused_with_its_column(server: Server) -> None:
    answer = get(server, "/api/runs?where=seed%3D1%20and%20sede%3D2")
    assert answer.status == 400
    assert json.loads(answer.body)["column"] == 12


def test_curves_and_descriptions_are_json(server: Server) -> None:
    curves = json.loads(get(server, f"/api/curves?run={ID}&key=train/loss").body)
    assert list(curves[ID]["metrics"]) == ["train/loss"]
    assert json.loads(get(server, f"/api/run?id={ID}").body)["values"]["id"] == ID
    assert get(server, "/api/run?id=none").status == 404


def test_only_files_of_runs_are_sent(server: Server) -> None:
    answer = get(server, f"/run/{ID}/result.json")
    assert answer.body == (server.root / ID / "result.json").read_bytes()
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    (server.root / ID / "secret.txt").write_text("no")
    (server.root.parent / "outside.json").write_text("no")
    for path in ("secret.txt", "../../outside.json", "..%2f..%2foutside.json", "", "checkpoints"):
        assert get(server, f"/run/{ID}/{path}").status == 404
    assert get(server, "/run/../outside.json").status == 404
    assert get(server, "/etc/passwd").status == 404


def test_other_hosts_methods_and_ports_are_refused(server: Server) -> None:
    assert get(server, "/", Host="evil.example:80").status == 403
    assert get(server, "/", Host=f"localhost:{server.server_address[1]}").status == 200
    assert get(server, "/api/runs", "POST").status == 501
    assert get(server, "/", "HEAD").body == b""
    with pytest.raises(ResourceError, match="--port 0 takes any free one"):
        Server(server.root, server.server_address[1])


def test_the_page_is_small_and_its_libraries_are_those_that_were_published(server: Server) -> None:
    sizes = [len(get(server, f"/{name}").body) for name in PAGE]
    assert sum(sizes) < 150_000
    policy = get(server, "/").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    for name in PAGE:
        assert get(server, f"/{name}").body == page_file(name)
    for library in toml.read(VENDOR / "vendor.toml").data.values():
        for name, digest in library["files"].items():
            assert file_sha256(VENDOR / name) == digest
