"""Where an experiment, a run directory, signals and observers meet."""

from sightx.runner.entry import resume, run, table

__all__ = ["resume", "run", "table"]
