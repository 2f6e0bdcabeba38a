"""Send a run to MLflow while it trains, from another process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import RunInfo

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Mlflow(Observer):
    """Send settings, metrics and files of a run to a server of MLflow.

    Another process reads them in the run directory and sends them, so a server that is slow or
    down does not matter to training: `sightx ship RUN` sends the rest later. Passwords come from
    MLflow's environment variables.
    """

    name = "mlflow"

    server: str = ""
    """Tracking URI, such as http://127.0.0.1:5000; empty: the variable MLFLOW_TRACKING_URI."""
    experiment: str = ""
    """The experiment there; empty: the name of the run."""
    files: tuple[str, ...] = (
        "*.toml", "*.json", "*.csv", "*.log", "*.html", "plots/*", "predictions/*.csv",
    )  # fmt: skip
    """Patterns of the files of the run that become artifacts when it has ended."""

    def build(self, run: RunInfo) -> object:
        """Return an object that starts the other process."""
        return _Starter()


class _Starter:
    @hookimpl
    def sightx_run_started(self, run: RunInfo) -> None:
        """Start a process that sends the run and ends after it; training never hears of it."""
        folder = run.directory / "trackers"
        folder.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k not in _RANK_VARIABLES}
        command = [sys.executable, "-m", "sightx", "ship", str(run.directory.absolute()),
                   "--to", "mlflow", "--follow"]  # fmt: skip
        log = str(folder / "mlflow.log")
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # A group of processes: Ctrl-C ends training, and this process sends what it has saved.
        os.posix_spawn(
            sys.executable,
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, append, 0o666),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setpgroup=0,
        )
