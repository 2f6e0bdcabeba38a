"""Where the time of a step goes: a trace of some steps, and its summary."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightx.records.events import Event, Step

if TYPE_CHECKING:
    from torch.profiler import profile

PARTS = ("data", "augment", "forward", "backward", "optimizer", "graph")
"""The names of the spans of a step: "data" waits for it; "graph" replays what others compute."""

FOLDER, TRACE, SUMMARY = "profile", "trace.json", "summary.json"
_SKIPPED, _TRACED = 10, 20  # steps: the first ones choose algorithms and allocate
_OPERATORS = 10
_NOTHING = nullcontext()


@dataclass(frozen=True)
class Summary:
    """Say how the time of some steps was spent.

    `seconds` is that of all `steps`; `parts` are shares of it, on the host; `operators` are (name,
    calls, seconds) with the most time of their own first, on the device where there is one.
    """

    steps: int
    seconds: float
    device: str
    parts: dict[str, float]
    operators: list[tuple[str, int, float]]

    @classmethod
    def read(cls, folder: Path) -> Summary | None:
        """Return what `profiled` wrote into a folder; None where it came to no step."""
        path = folder / SUMMARY
        return cls(**json.loads(path.read_text())) if path.exists() else None


def span(name: str) -> AbstractContextManager[Any]:
    """Name what runs inside in the trace; costs next to nothing where nobody traces."""
    return (
        torch.profiler.record_function(name) if torch._C._autograd._profiler_enabled() else _NOTHING
    )


def profile_steps(events: Iterator[Event], folder: Path) -> Iterator[Event]:
    """Yield a trainer's events; trace some of the steps, and write what was seen into `folder`.

    The trace is for chrome://tracing and Perfetto. A run of few steps is traced from its second.
    """
    tracing: profile | None = None
    started, seen, traced = 0.0, 0, 0
    try:
        for event in events:
            yield event
            if not isinstance(event, Step) or traced == _TRACED:
                continue
            seen, traced = seen + 1, traced + (tracing is not None)
            if tracing is None and seen >= min(_SKIPPED, max(event.steps_per_epoch // 2, 1)):
                tracing = _profile()
                tracing.start()
                started = time.perf_counter()
            elif tracing and traced == _TRACED:
                _write(tracing, folder, traced, time.perf_counter() - started)
    finally:
        if tracing and 0 < traced < _TRACED:
            _write(tracing, folder, traced, time.perf_counter() - started)


def _profile() -> profile:
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it talks to the terminal
    devices = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return profile(activities=[ProfilerActivity.CPU, *devices])


def _write(tracing: profile, folder: Path, steps: int, seconds: float) -> None:
    tracing.stop()
    folder.mkdir(parents=True, exist_ok=True)
    tracing.export_chrome_trace(str(folder / TRACE))
    summary = _summary(tracing, steps, seconds)
    (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=1))


def _summary(tracing: profile, steps: int, seconds: float) -> Summary:
    """Return what was seen; on CUDA the operators are kernels, which a replayed graph has too."""
    from torch._C._autograd import DeviceType

    rows, cuda = tracing.key_averages(), torch.cuda.is_available()
    where = DeviceType.CUDA if cuda else DeviceType.CPU
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    parts = {
        name: sum(row.cpu_time_total for row in rows if row.key == name) / 1e6 / seconds
        for name in PARTS
    }
    operators = [
        (row.key, row.count, getattr(row, own) / 1e6)
        for row in rows
        if row.device_type == where and not row.is_user_annotation
    ]
    return Summary(
        steps=steps,
        seconds=seconds,
        device=where.name.lower(),
        parts={name: share for name, share in parts.items() if share},
        operators=sorted(operators, key=lambda row: -row[2])[:_OPERATORS],
    )
