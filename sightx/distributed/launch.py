"""Start the processes of a run on this host, as torchrun does, and return its exit code."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.distributed import rendezvous
from sightx.distributed.failures import LOST_HINT
from sightx.errors import Problem, ResourceError
from sightx.io.signals import STOP_SIGNALS
from sightx.io.system import configure_openmp

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

_SHUTDOWN_SECONDS = 600  # for the processes to save the run after a signal


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `sightx ARGUMENTS` in several processes of one group; return the exit code of the run.

    Raises ResourceError if a process was killed and no other process reported it.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for name in logging.root.manager.loggerDict:  # each of torch's loggers has its own level
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    configure_openmp(processes)
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        exit_code_file = Path(folder, "exit-code")
        os.environ[rendezvous.EXIT_CODE_FILE] = str(exit_code_file)
        try:
            elastic_launch(_config(processes), sys.executable)("-m", "sightx", *arguments)
        except ChildFailedError as error:
            return _exit_code(error.failures)
        except SignalException as error:  # it does not hold the exit codes of the processes
            has_code = exit_code_file.is_file()
            return (
                int(exit_code_file.read_text(encoding="utf-8")) if has_code else 128 + error.sigval
            )
        finally:
            del os.environ[rendezvous.EXIT_CODE_FILE]
    return 0


def _config(processes: int) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="static",  # every other backend pickles what it keeps in the store
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": 0},
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        shutdown_timeout=_SHUTDOWN_SECONDS,
        signals_to_handle=",".join(signal.Signals(number).name for number in _handled_signals()),
    )


def _handled_signals() -> Iterator[int]:
    """Yield the signals that the launcher passes on; an ignored one, as under nohup, stays so."""
    for number in (*STOP_SIGNALS, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            yield number


def _exit_code(failures: dict[int, ProcessFailure]) -> int:
    """Return the exit code of the failed processes: all that could report have the same one."""
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    reported = [code for code in codes.values() if code > 0]
    if reported:
        return reported[0]
    rank, code = next(iter(codes.items()))
    message = f"rank {rank} was ended by {signal.Signals(-code).name}"
    raise ResourceError(Problem("lost-process", message, LOST_HINT))
