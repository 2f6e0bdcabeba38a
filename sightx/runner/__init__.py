"""Run, resume, repeat and evaluate an experiment."""

from sightx.runner.api import repeat, resume, run, table

__all__ = ["repeat", "resume", "run", "table"]
