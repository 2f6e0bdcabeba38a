"""Say what somebody should know of a run while it goes on: into a file, and to a webhook."""

from __future__ import annotations

import json
import math
import os
import re
from datetime import UTC, datetime
from http.client import HTTPException
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.request import Request, urlopen

from pydantic import Field, NonNegativeInt

from sightx.plugin import Component, Observer, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import Epoch, RunInfo

_FILE = "alerts.jsonl"
_URL = re.compile(r"https?://\S+")

Event = Literal[
    "no-progress", "not-finite", "rate-fell", "finished", "stopped", "interrupted", "failed"
]


class Alerts(Observer):
    """Tell what is worth knowing of a run while it goes on.

    Each event is a line of alerts.jsonl in the run's directory and, with a `url`, is posted there
    as JSON of the same keys: time, run, event, epoch, text. A webhook that fails is noted in the
    file; the run goes on.
    """

    name = "alerts"

    events: tuple[Event, ...] = get_args(Event)
    """What to tell; everything, if left out."""
    patience: NonNegativeInt = 5
    """Epochs without a better monitored figure that make `no-progress`; 0: never."""
    drop: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The rate fell when it is at most this share of what it was an epoch before."""
    url: Annotated[str, Field(pattern=r"^(https?://\S+|\$\w+)?$")] = ""
    """Where to post, http:// or https://, or `$NAME`: the variable that holds a secret one."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    """Seconds that a run waits for the webhook."""

    def build(self, run: RunInfo) -> object:
        """Return what watches."""
        return _Watcher(self, run)


class _Watcher:
    """Turn what happens into events."""

    def __init__(self, settings: Alerts, run: RunInfo) -> None:
        self._settings, self._run = settings, run
        self._epoch, self._idle = 0, 0
        self._rate = math.nan
        self._odd: set[str] = set()

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        self._epoch = epoch.number
        self._watch_progress(epoch)
        self._watch_figures(epoch)
        if epoch.lr <= self._settings.drop * self._rate < self._rate:
            self._tell("rate-fell", f"the learning rate fell from {self._rate:g} to {epoch.lr:g}")
        self._rate = epoch.lr

    @hookimpl
    def sightx_run_finished(self, result: dict[str, Any]) -> None:
        status = str(result["status"])
        reason = result.get("error") or result.get("reason")
        self._tell(status, f"{status}: {reason}" if reason else status)

    def _watch_progress(self, epoch: Epoch) -> None:
        self._idle = 0 if epoch.is_best else self._idle + 1
        if self._idle and self._idle == self._settings.patience:
            self._tell("no-progress", f"{epoch.monitor} is no better since {self._idle} epochs")

    def _watch_figures(self, epoch: Epoch) -> None:
        """Tell of figures that are newly not finite; some metrics may be, losses never."""
        odd = {
            name
            for name, value in epoch.metrics.items()
            if (name == epoch.monitor or name.endswith("/loss")) and not math.isfinite(value)
        }
        if new := sorted(odd - self._odd):
            self._tell("not-finite", f"not a finite number: {', '.join(new)}")
        self._odd = odd

    def _tell(self, event: str, text: str) -> None:
        """Write a line, and post it."""
        if event not in self._settings.events:
            return
        record = self._record(event, text)
        self._run.log(_FILE, record + "\n")
        if self._settings.url and (fault := self._post(record)):
            self._run.log(_FILE, self._record("webhook-failed", fault) + "\n")

    def _record(self, event: str, text: str) -> str:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"time": now, "run": self._run.id, "event": event, "epoch": self._epoch}
        return json.dumps({**record, "text": f"{self._run.id}: {text}"})

    def _post(self, record: str) -> str:
        """Post a record and return what went wrong, if anything.

        On a thread that may be left behind: urllib's timeout is none for names and slow answers.
        """
        faults = [f"no answer in {self._settings.timeout:g} s"]

        def work() -> None:
            faults[:] = _post(self._settings.url, record, self._settings.timeout)

        thread = Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._settings.timeout)
        return "".join(faults)


def _post(url: str, record: str, timeout: float) -> list[str]:
    """Post a record and return what went wrong; the URL, which may be a secret, is never in it."""
    if url.startswith("$"):
        name, url = url, os.environ.get(url[1:], "")
        if not _URL.fullmatch(url):
            return [f"the variable {name} holds no URL"]
    headers = {"Content-Type": "application/json", "User-Agent": "sightx-alerts"}
    try:
        request = Request(url, record.encode(), headers)  # noqa: S310 - http and https only
        with urlopen(request, timeout=timeout):  # noqa: S310
            return []
    except OSError as error:
        return [f"{type(error).__name__}: {error}"]
    except (HTTPException, ValueError) as error:
        return [type(error).__name__]


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return what this plugin brings."""
    return [Alerts]
