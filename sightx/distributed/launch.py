"""Start the processes of a run on this host, as torchrun does, and say how they ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.distributed import rendezvous
from sightx.errors import Problem, ResourceError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

GRACE = 600
"""Seconds that processes have to save when a signal has asked them to end."""


def start(processes: int, words: Sequence[str]) -> int:
    """Run `sightx WORDS` in so many processes of one group; return the exit code of the run.

    Raises ResourceError where a process was killed and no other could say so.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for name in logging.root.manager.loggerDict:  # each of them has a level of its own
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # or all want every core
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        os.environ[rendezvous.EXIT_CODE_FILE] = f"{folder}/code"
        try:
            elastic_launch(_config(processes), sys.executable)("-m", "sightx", *words)
        except ChildFailedError as error:
            return _code(error.failures)
        except SignalException as asked:  # it does not say how they have ended
            told = Path(folder, "code")
            return int(told.read_text()) if told.is_file() else 128 + asked.sigval
        finally:
            del os.environ[rendezvous.EXIT_CODE_FILE]
    return 0


def _config(processes: int) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="static",  # any other pickles what it keeps in the store
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": 0},
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        shutdown_timeout=GRACE,
    )


def _code(failures: dict[int, ProcessFailure]) -> int:
    """Return the code with which the processes have ended; all that could speak have the same."""
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    spoken = [code for code in codes.values() if code > 0]
    if spoken:
        return spoken[0]
    rank, code = next(iter(codes.items()))
    message = f"rank {rank} was ended by {signal.Signals(-code).name}"
    hint = "the system kills processes when memory runs out; sightx resume RUN goes on"
    raise ResourceError(Problem("lost-process", message, hint))
