"""Every scoring of a test split: each one is a chance to choose by the test data.

`test-scorings.jsonl` has one line per scoring. The file is replaced in one step.
"""

from __future__ import annotations

import json
from typing import Any

from sightx.io import atomic
from sightx.io.system import user_name, utc_time
from sightx.runs import checkpoints
from sightx.runs.directory import Run

FILE = "test-scorings.jsonl"


def record_test_scoring(run: Run, command: str, checkpoint: str, rows: str, samples: int) -> None:
    """Add a scoring to `test-scorings.jsonl`.

    Args:
        run: The run whose weights were scored.
        command: What scored it: `run` or `evaluate`.
        checkpoint: The name of the checkpoint's directory.
        rows: The id of the scored samples, as `PreparedDataset.split_id` returns it.
        samples: How many there were.
    """
    scoring = {
        "time": utc_time(),
        "user": user_name(),
        "command": command,
        "checkpoint": checkpoint,
        "weights": checkpoints.weights_hash(run.directory / "checkpoints" / checkpoint),
        "rows": rows,
        "samples": samples,
    }
    lines = [json.dumps(line) + "\n" for line in (*read_test_scorings(run), scoring)]
    with atomic.run_disk_errors(run.directory):
        atomic.replace(run.directory / FILE, "".join(lines).encode())


def read_test_scorings(run: Run) -> list[dict[str, Any]]:
    """Return the scorings of a run's test split, the oldest first. Raises RunError."""
    return [row for _, row in run.read_lines(FILE)]
