"""Run, resume and evaluate an experiment."""

from sightx.runner.api import resume, run, table

__all__ = ["resume", "run", "table"]
