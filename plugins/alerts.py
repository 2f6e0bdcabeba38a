"""Write events of a run that need attention into a file, and post them to a webhook."""

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
    """Report events of a run that need attention.

    Each event is a line of alerts.jsonl in the run directory, and is posted to `url` as JSON with
    the same keys: time, run, event, epoch, text. If the webhook fails, that is noted in the file,
    and the run continues.
    """

    name = "alerts"

    events: tuple[Event, ...] = get_args(Event)
    """Events to report; by default all."""
    patience: NonNegativeInt = 5
    """Number of epochs without improvement after which `no-progress` is reported; 0: never."""
    drop: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """`rate-fell` means: the learning rate is at most this fraction of that of the last epoch."""
    url: Annotated[str, Field(pattern=r"^(https?://\S+|\$\w+)?$")] = ""
    """URL to post to, http:// or https://, or `$NAME`: an environment variable with the URL."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 3.0
    """Number of seconds to wait for the webhook."""

    def build(self, run: RunInfo) -> object:
        """Return an object that reports events."""
        return _Reporter(self, run)


class _Reporter:
    """Turn epochs and results into events."""

    def __init__(self, settings: Alerts, run: RunInfo) -> None:
        self._settings, self._run = settings, run
        self._epoch, self._idle = 0, 0
        self._rate = math.nan
        self._nonfinite: set[str] = set()

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        self._epoch = epoch.number
        self._check_progress(epoch)
        self._check_finite(epoch)
        if epoch.lr <= self._settings.drop * self._rate < self._rate:
            self._report("rate-fell", f"the learning rate fell from {self._rate:g} to {epoch.lr:g}")
        self._rate = epoch.lr

    @hookimpl
    def sightx_run_finished(self, result: dict[str, Any]) -> None:
        status = str(result["status"])
        reason = result.get("error") or result.get("reason")
        self._report(status, f"{status}: {reason}" if reason else status)

    def _check_progress(self, epoch: Epoch) -> None:
        self._idle = 0 if epoch.is_best else self._idle + 1
        if self._idle and self._idle == self._settings.patience:
            self._report("no-progress", f"{epoch.monitor} has not improved for {self._idle} epochs")

    def _check_finite(self, epoch: Epoch) -> None:
        """Report losses and the monitored metric when they become NaN or infinite."""
        nonfinite = {
            name
            for name, value in epoch.metrics.items()
            if (name == epoch.monitor or name.endswith("/loss")) and not math.isfinite(value)
        }
        if new := sorted(nonfinite - self._nonfinite):
            self._report("not-finite", f"not a finite number: {', '.join(new)}")
        self._nonfinite = nonfinite

    def _report(self, event: str, text: str) -> None:
        """Write an event into the file, and post it."""
        if event not in self._settings.events:
            return
        record = self._record(event, text)
        self._run.log(_FILE, record + "\n")
        if self._settings.url and (error := self._post(record)):
            self._run.log(_FILE, self._record("webhook-failed", error) + "\n")

    def _record(self, event: str, text: str) -> str:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"time": now, "run": self._run.id, "event": event, "epoch": self._epoch}
        return json.dumps({**record, "text": f"{self._run.id}: {text}"})

    def _post(self, record: str) -> str:
        """Post a record; return an error message, or "".

        A thread does it and may be abandoned, because urllib's timeout covers neither name lookups
        nor slow responses.
        """
        errors = [f"no answer in {self._settings.timeout:g} s"]

        def work() -> None:
            errors[:] = _post(self._settings.url, record, self._settings.timeout)

        thread = Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._settings.timeout)
        return "".join(errors)


def _post(url: str, record: str, timeout: float) -> list[str]:
    """Post a record; return error messages, which never contain the URL: it may be a secret."""
    if url.startswith("$"):
        name, url = url, os.environ.get(url[1:], "")
        if not _URL.fullmatch(url):
            return [f"the variable {name} has no URL"]
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
    """Return the components of this plugin."""
    return [Alerts]
