"""The progress bar of the console observer in a notebook: one output of a cell that is updated."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Task

_SECONDS_BETWEEN_UPDATES = 0.2  # each is a message to the browser


def is_notebook() -> bool:
    """Return whether the process is the kernel of a notebook, as in Jupyter or Colab."""
    if (ipython := sys.modules.get("IPython")) is None:
        return False
    return getattr(ipython.get_ipython(), "kernel", None) is not None


class CellBar:
    """Show a task of `rich.progress` in the output of the running cell."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._updated = 0.0

    def show(self, task: Task, *, is_last: bool = False) -> None:
        """Show the state of a task, at most every 0.2 s unless it is the last one."""
        from IPython.display import display

        now = time.monotonic()
        if self._handle and not is_last and now - self._updated < _SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        if self._handle is None:
            self._handle = display(_bundle(task), raw=True, display_id=True)
        else:
            self._handle.update(_bundle(task), raw=True)


def _bundle(task: Task) -> dict[str, str]:
    """Return a task as text, and as HTML with a bar."""
    done, total = int(task.completed), int(task.total or 0)
    parts = [task.description, f"{task.fields['unit']} {done}/{total or '?'}", task.fields["rate"]]
    if task.time_remaining and done < total:
        parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    text = "  ".join(filter(None, parts))
    bar = f'<progress value="{done}" max="{max(total, 1)}"></progress>'
    return {"text/plain": text, "text/html": f"{bar} {escape(text)}"}
