"""Counters and times of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from sightx.inference.prediction import Graded, Prediction
from sightx.serving.service import Service

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8)


class Metrics:
    """What `/metrics` shows. No label has a value that comes from a request."""

    def __init__(self, service: Service) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, buckets=_SECONDS, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter("sightx_requests", "Requests.", ["route", "status", "code"])
        self._seconds = histogram(
            "sightx_request_seconds", "Time from the head of a request to its answer.", ["route"]
        )
        self._stages = histogram(
            "sightx_stage_seconds", "Time per request: read, decode, model.", ["stage"]
        )
        self._batches = histogram(
            "sightx_batch_size", "Images computed at once, per answer.", buckets=_SIZES
        )
        self._answers = counter("sightx_answers", "Answers for images.", ["outcome", "class"])
        self._verdicts = counter(
            "sightx_quality", "Verdicts on the quality of images.", ["verdict"]
        )
        gauge("sightx_waiting_images", "Waiting or computed.").set_function(lambda: service.waiting)
        model, labels = service.predictor.model, ["id", "weights_sha256"]
        name = gauge("sightx_model", "The model that answers.", labels)
        name.labels(model.id, model.weights_sha256).set(1)

    def add_request(
        self, route: str, status: int, code: str, seconds: float, stages: Mapping[str, float]
    ) -> None:
        """Count one request."""
        self._requests.labels(route, str(status), code).inc()
        self._seconds.labels(route).observe(seconds)
        for stage, duration in stages.items():
            self._stages.labels(stage).observe(duration)

    def add_prediction(self, prediction: Prediction, batch_size: int) -> None:
        """Count one prediction."""
        name = prediction.class_name if isinstance(prediction, Graded) else ""
        self._answers.labels(prediction.outcome, name).inc()
        self._batches.observe(batch_size)
        if prediction.quality:
            self._verdicts.labels(prediction.quality.verdict).inc()

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)
