"""Counters are exact."""

from __future__ import annotations

import re

from sightx import Predictor
from support.serving import running


def test_each_request_is_counted_once(predictor: Predictor, image: bytes) -> None:  # V21
    with running(predictor, max_batch=1) as server:
        for _ in range(10):
            server.predict(image)
        for _ in range(3):
            server.predict(b"x")
        server.service.settings.__dict__["max_queue"] = 0  # the queue is full
        for _ in range(2):
            assert server.predict(image).status == 503
        answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.content.decode()
    counts = dict(re.findall(r"^(sightx_\w+\{.*?\}) (\S+)$", text, re.MULTILINE))
    requests = {key: value for key, value in counts.items() if "requests_total" in key}
    assert requests == {
        'sightx_requests_total{code="",route="/v1/predict",status="200"}': "10.0",
        'sightx_requests_total{code="not_jpeg_or_png",route="/v1/predict",status="422"}': "3.0",
        'sightx_requests_total{code="busy",route="/v1/predict",status="503"}': "2.0",
    }
    assert counts['sightx_answers_total{class="light",outcome="graded"}'] == "10.0"
    assert counts['sightx_stage_seconds_count{stage="model"}'] == "10.0"
    assert counts['sightx_request_seconds_count{route="/v1/predict"}'] == "15.0"
    assert f'id="{predictor.model.id}"' in text
