"""The description of the interface: complete, valid, and what the server does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx import Predictor
from sightx.serving.errors import ERRORS
from support.images import encode
from support.serving import TestServer, encode_form, running

ROUTES = {
    "/v1/predict": {"post"},
    "/v1/predict/pair": {"post"},
    "/v1/explain": {"post"},
    "/v1/model": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def spec(server: TestServer) -> dict[str, Any]:
    return dict(server.ask("GET", "/openapi.json").json)


def check(spec: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Judge a value by a schema of the description, which is JSON Schema 2020-12."""
    text = json.dumps(schema | {"components": spec["components"]})
    jsonschema.Draft202012Validator(json.loads(text)).validate(value)


def responses(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the status and the description of each answer in JSON."""
    for methods in spec["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if media := response.get("content", {}).get("application/json"):
                    yield status, media


# V18
def test_nothing_takes_a_path_an_address_or_the_name_of_a_model(spec: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in spec["paths"].items()} == ROUTES
    operations = [op for methods in spec["paths"].values() for op in methods.values()]
    assert all("parameters" not in operation for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)


def test_the_examples_fit_their_schemas(spec: dict[str, Any]) -> None:
    codes = set()
    for status, media in responses(spec):
        for name, example in media.get("examples", {}).items():
            check(spec, media["schema"], example["value"])
            if int(status) >= 400:
                assert ERRORS[name].status == int(status)
                codes.add(name)
    not_described = {"bad_request", "not_found", "method_not_allowed", "client_closed"}
    assert codes == set(ERRORS) - not_described


def test_outcome_decides_which_answer_it_is(spec: dict[str, Any]) -> None:
    content = spec["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    assert schema["discriminator"]["propertyName"] == "outcome"
    assert set(schema["discriminator"]["mapping"]) == {"graded", "ungradable"}
    ungradable = spec["components"]["schemas"]["Ungradable"]["properties"]
    assert not ungradable.keys() & {"grade", "class", "probabilities"}


def test_answers_fit_the_description(
    server: TestServer, spec: dict[str, Any], image: bytes, judge: Predictor
) -> None:
    answers = {
        ("/v1/predict", "post"): server.predict(image),
        ("/v1/predict/pair", "post"): server.post_form(
            "/v1/predict/pair", ("left", image), ("right", image)
        ),
        ("/v1/model", "get"): server.ask("GET", "/v1/model"),
        ("/readyz", "get"): server.ask("GET", "/readyz"),
    }
    for (path, method), answer in answers.items():
        media = spec["paths"][path][method]["responses"][str(answer.status)]["content"]
        check(spec, media["application/json"]["schema"], answer.json)
    black = encode(np.zeros((20, 24, 3), np.uint8), "PNG")
    predict = spec["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]
    with running(judge) as judging:
        for content in (image, black):
            answer = judging.predict(content).json
            assert answer["quality"]["verdict"] == ("poor" if content is image else "ungradable")
            check(spec, predict["application/json"]["schema"], answer)


TYPES = st.sampled_from([
    "image/jpeg", "image/png", "image/x; q=1", "application/json", "multipart/form-data",
    "multipart/form-data; boundary=b0undary", "multipart/form-data; boundary=", "text/html", "",
])  # fmt: skip
PARTS = st.lists(
    st.tuples(st.sampled_from(["image", "left", "right", "x"]), st.binary(max_size=30)), max_size=6
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_requests_never_fail_the_server(
    server: TestServer, spec: dict[str, Any], image: bytes, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from([*ROUTES, "/", "/x"]))
    method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]))
    cut = data.draw(st.integers(0, len(image)))
    flip = data.draw(st.integers(0, len(image) - 1))
    body = data.draw(
        st.one_of(
            st.binary(max_size=60),
            st.just(image[:cut]),
            st.just(image[:flip] + bytes([image[flip] ^ 255]) + image[flip + 1 :]),
            PARTS.map(lambda parts: encode_form(*parts)[0]),
            PARTS.map(lambda parts: encode_form(*parts)[0][:-5]),
        )
    )
    answer = server.ask(method, path, body, content_type=data.draw(TYPES))
    assert answer.status < 500
    operation = spec["paths"].get(path, {}).get(method.lower())
    if operation:
        assert str(answer.status) in operation["responses"]
    elif answer.status >= 400 and method != "HEAD":
        assert answer.code in ("not_found", "method_not_allowed")


@pytest.mark.skipif(shutil.which("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.slow  # two minutes, and a library with a plugin for pytest
def test_schemathesis_finds_no_fault_with_two_thousand_requests(  # V23
    server: TestServer,
) -> None:
    done = subprocess.run(
        ["schemathesis", "run", f"http://127.0.0.1:{server.port}/openapi.json", "--no-color",
         "--phases", "coverage,fuzzing", "--max-examples", "1200", "--workers", "2", "--checks",
         "not_a_server_error,status_code_conformance,content_type_conformance,"
         "response_schema_conformance"],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks",
                          "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    generated, passed = re.findall(r"(\d+) generated, (\d+) passed", done.stdout)[0]
    assert int(passed) == int(generated) >= 2000
