"""SightX: a plugin-based experiment registry for image classifiers, with declarative specs.

This module is for users: load a spec, run it, open its run, predict. Plugin authors import from
`sightx.plugin`. Importing it loads no torch, no pandas and no rich.
"""

from __future__ import annotations

import signal
import sys

# First of all, because the modules below take time to load: until the command handles SIGINT, it
# ends the process without a traceback. Programs that import sightx keep their handler.
_IS_MODULE = sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv) :][:1] == ["sightx"]
_IS_COMMAND = _IS_MODULE or "".join(sys.argv[:1]).rpartition("/")[2] == "sightx"
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from sightx.errors import (  # noqa: E402
    DataError,
    NonFiniteError,
    PluginError,
    ResourceError,
    RunError,
    SightXError,
    SpecError,
)
from sightx.io.system import configure_openmp  # noqa: E402

if TYPE_CHECKING:
    from sightx.inference.predictor import Predictor
    from sightx.run_registry.find import open_run
    from sightx.run_registry.listing import list_runs
    from sightx.runner import resume, run, table
    from sightx.runs.directory import Run
    from sightx.spec.experiment import Experiment
    from sightx.spec.load import load

configure_openmp()  # before torch is imported

# The module of each name that is imported on first use.
_LAZY = {
    "Experiment": "sightx.spec.experiment",
    "Predictor": "sightx.inference.predictor",
    "Run": "sightx.runs.directory",
    "list_runs": "sightx.run_registry.listing",
    "load": "sightx.spec.load",
    "open_run": "sightx.run_registry.find",
    "resume": "sightx.runner",
    "run": "sightx.runner",
    "table": "sightx.runner",
}

__all__ = [
    "DataError",
    "Experiment",
    "NonFiniteError",
    "PluginError",
    "Predictor",
    "ResourceError",
    "Run",
    "RunError",
    "SightXError",
    "SpecError",
    "list_runs",
    "load",
    "open_run",
    "resume",
    "run",
    "table",
]


def __getattr__(name: str) -> Any:
    """Import a heavy name on first use."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("sightx")
    if name not in _LAZY:
        raise AttributeError(f"module 'sightx' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """List the names that are imported on first use, too."""
    return sorted([*__all__, "__version__"])
