"""Profile some steps: write a trace and a summary of where their time goes."""

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
"""The spans of a step: "data" waits for the batch, "graph" is a replayed CUDA graph."""

FOLDER, TRACE, SUMMARY = "profile", "trace.json", "summary.json"
_WARM_UP_STEPS, _TRACED_STEPS = 10, 20  # the first steps choose algorithms and allocate
_OPERATORS = 10
_NO_SPAN = nullcontext()


@dataclass(frozen=True)
class Summary:
    """How the time of some steps was spent.

    `seconds` is the time of all `steps`, and `parts` has the fraction of it that each span took on
    the host. `operators` are (name, calls, seconds without callees), the longest first; they are
    kernels if `device` is cuda.
    """

    steps: int
    seconds: float
    device: str
    parts: dict[str, float]
    operators: list[tuple[str, int, float]]

    @classmethod
    def read(cls, folder: Path) -> Summary | None:
        """Return what `profile_steps` wrote into a folder; None if no step was traced."""
        path = folder / SUMMARY
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def span(name: str) -> AbstractContextManager[Any]:
    """Return a context that names its contents in the trace; free without a profiler."""
    is_profiling = torch._C._autograd._profiler_enabled()
    return torch.profiler.record_function(name) if is_profiling else _NO_SPAN


def profile_steps(events: Iterator[Event], folder: Path) -> Iterator[Event]:
    """Yield a trainer's events, and write a trace and a summary of some steps into `folder`.

    The trace is for chrome://tracing and Perfetto. Tracing starts after 10 steps, or after half of
    the first epoch if that is shorter.
    """
    profiler: profile | None = None
    start, seen, traced = 0.0, 0, 0
    try:
        for event in events:
            yield event
            if not isinstance(event, Step) or traced == _TRACED_STEPS:
                continue
            seen, traced = seen + 1, traced + (profiler is not None)
            if profiler is None and seen >= min(_WARM_UP_STEPS, max(event.steps_per_epoch // 2, 1)):
                profiler = _profile()
                profiler.start()
                start = time.perf_counter()
            elif profiler and traced == _TRACED_STEPS:
                _write(profiler, folder, traced, time.perf_counter() - start)
    finally:
        if profiler and 0 < traced < _TRACED_STEPS:
            _write(profiler, folder, traced, time.perf_counter() - start)


def _profile() -> profile:
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it prints to the terminal
    devices = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return profile(activities=[ProfilerActivity.CPU, *devices])


def _write(profiler: profile, folder: Path, steps: int, seconds: float) -> None:
    profiler.stop()
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / TRACE))
    summary = _summary(profiler, steps, seconds)
    (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=1), encoding="utf-8")


def _summary(profiler: profile, steps: int, seconds: float) -> Summary:
    """Return the summary; on CUDA of kernels, which a replayed graph has too."""
    from torch._C._autograd import DeviceType

    rows, cuda = profiler.key_averages(), torch.cuda.is_available()
    device_type = DeviceType.CUDA if cuda else DeviceType.CPU
    self_time = "self_device_time_total" if cuda else "self_cpu_time_total"
    parts = {
        name: sum(row.cpu_time_total for row in rows if row.key == name) / 1e6 / seconds
        for name in PARTS
    }
    operators = [
        (row.key, row.count, getattr(row, self_time) / 1e6)
        for row in rows
        if row.device_type == device_type and not row.is_user_annotation
    ]
    return Summary(
        steps=steps,
        seconds=seconds,
        device=device_type.name.lower(),
        parts={name: fraction for name, fraction in parts.items() if fraction},
        operators=sorted(operators, key=lambda row: -row[2])[:_OPERATORS],
    )
