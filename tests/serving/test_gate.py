"""Who may ask: token, host, origin; and what the log says."""

from __future__ import annotations

import logging

import pytest

from sightx import Predictor
from support.serving import TestServer, running, wait_until

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def closed(predictor: Predictor):
    """A server with a token."""
    with running(predictor, token=TOKEN) as server:
        yield server


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}", "Bearer \xff",
              f"bearer {TOKEN}x", f"Basic {TOKEN}"],
)  # fmt: skip
def test_without_the_token_nothing_is_answered(  # V15
    closed: TestServer, image: bytes, given: str | None
) -> None:
    headers = {} if given is None else {"authorization": given}
    for path in ("/v1/predict", "/v1/explain"):
        answer = closed.predict(image, path, **headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert closed.ask("GET", "/metrics", **headers).status == 401


def test_the_token_opens_everything_and_probes_and_page_need_none(
    closed: TestServer, image: bytes, caplog
) -> None:
    caplog.set_level(logging.INFO, "sightx.serving")
    for header in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
        assert closed.predict(image, authorization=header).status == 200
    for path in ("/livez", "/readyz", "/", "/page/page.js", "/page/style.css", "/openapi.json"):
        assert closed.ask("GET", path).status == 200, path
    assert closed.ask("GET", "/v1/other").code == "unauthorized"
    wait_until(lambda: "POST /v1/predict 200 ok" in caplog.text)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:80"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1"}, 200),
        ({"host": "127.0.0.1", "origin": "null"}, 403),
        ({"host": "127.0.0.1", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1:8000"}, 403),
        ({"host": "127.0.0.1", "sec_fetch_site": "cross-site"}, 403),
        ({"host": "127.0.0.1", "sec_fetch_site": "same-origin"}, 200),
    ],
)
def test_requests_from_other_sites_are_refused(
    server: TestServer, image: bytes, headers: dict[str, str], status: int
) -> None:
    answer = server.predict(image, **headers)
    assert answer.status == status
    assert status == 200 or answer.code == "cross_site"


def test_a_link_from_another_site_opens_the_page(server: TestServer) -> None:
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    answer = server.ask("GET", "/", **headers)
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_probes_answer_under_any_name(server: TestServer) -> None:
    assert server.ask("GET", "/readyz", host="10.0.0.7").status == 200


def test_the_log_has_neither_names_nor_addresses_nor_content(
    server: TestServer, image: bytes, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    server.post_form("/v1/predict?patient=Jane", ("image", image))
    server.ask("POST", "/Jane%20Doe/x", b"Jane", content_type="Jane")

    def lines() -> list[str]:
        records = [record for record in caplog.records if not record.name.startswith("PIL")]
        return [record.getMessage() for record in records]

    wait_until(lambda: len(lines()) == 2)  # they are written after the answers
    first, second = lines()
    assert " POST /v1/predict 200 ok " in first
    assert " POST other 404 not_found " in second
    assert "Jane" not in caplog.text
    assert "127.0.0.1" not in first + second
