from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sightx.builtin.augment import Flip
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Step
from sightx.records.events import Event
from sightx.training.profiling import SUMMARY, TRACE, Summary, profile_steps, span
from support.training import make_experiment, make_trainer


def steps_of_work(steps: int, of: int) -> Iterator[Event]:
    """Yield steps that multiply in the span forward, and sort in the span backward."""
    one = torch.ones(200, 200)
    for number in range(1, steps + 1):
        with span("forward"):
            for _ in range(5):
                one = (one @ one).clamp(max=1)
        with span("backward"):
            one.sort()
        yield Step(1, number, of, 8, torch.tensor(0.0), 0.1)


def test_some_steps_are_traced_and_all_events_pass(tmp_path: Path) -> None:
    events = list(profile_steps(steps_of_work(50, of=50), tmp_path / "profile"))
    assert [event.step for event in events] == list(range(1, 51))

    trace = json.loads((tmp_path / "profile" / TRACE).read_text())["traceEvents"]
    forward = [event for event in trace if event.get("name") == "forward"]
    assert len(forward) == 20
    products = [event for event in trace if event.get("name") == "aten::mm"]
    assert len(products) == 100

    summary = Summary.read(tmp_path / "profile")
    assert summary is not None
    assert summary.steps == 20
    traced = sum(event["dur"] for event in forward) / 1e6 / summary.seconds
    assert summary.parts["forward"] == pytest.approx(traced, rel=0.05)
    assert 0 < sum(summary.parts.values()) <= 1
    assert {name: calls for name, calls, _ in summary.operators}["aten::mm"] == 100
    shares = [seconds for _, _, seconds in summary.operators]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(("steps", "of", "traced"), [(4, 4, 2), (3, 1, 2), (12, 20, 2)])
def test_a_short_run_is_traced_as_far_as_it_goes(
    tmp_path: Path, steps: int, of: int, traced: int
) -> None:
    assert len(list(profile_steps(steps_of_work(steps, of), tmp_path))) == steps
    summary = Summary.read(tmp_path)
    assert summary is not None
    assert summary.steps == traced


def test_a_run_of_one_step_has_no_summary(tmp_path: Path) -> None:
    assert len(list(profile_steps(steps_of_work(1, 1), tmp_path / "profile"))) == 1
    assert Summary.read(tmp_path / "profile") is None


def test_a_consumer_that_stops_ends_the_trace(tmp_path: Path) -> None:
    events = profile_steps(steps_of_work(50, of=50), tmp_path)
    for _ in range(15):
        next(events)
    assert span("forward") is not span("backward")  # the profiler runs
    events.close()  # type: ignore[attr-defined]
    assert span("forward") is span("backward")
    assert json.loads((tmp_path / SUMMARY).read_text())["steps"] == 4


def test_a_trainer_names_the_parts_of_its_steps(dataset: PreparedDataset, tmp_path: Path) -> None:
    experiment = make_experiment(training={"batch_size": 4}, augment=(Flip(),))
    trainer = make_trainer(experiment, dataset)
    list(profile_steps(trainer.events(), tmp_path))
    summary = Summary.read(tmp_path)
    assert summary is not None
    assert set(summary.parts) == {"data", "augment", "forward", "backward", "optimizer"}


def test_a_span_costs_nothing_without_a_profiler() -> None:
    assert span("forward") is span("backward")
