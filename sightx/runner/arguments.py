"""What callers give to `sightx.run`, `resume` and `table`."""

from __future__ import annotations

from pathlib import Path

from sightx.errors import Problem, SpecError, wrong_type
from sightx.spec.experiment import Experiment
from sightx.spec.load import load
from sightx.spec.merge import Overrides


def as_experiment(experiment: Experiment | str | Path, overrides: Overrides = ()) -> Experiment:
    """Return an experiment, or that of a spec with overrides.

    Raises SpecError for what is neither, or for overrides of an experiment.
    """
    if isinstance(experiment, Experiment):
        if overrides:
            message, hint = "overrides apply to a spec file only", "give them to sightx.load"
            raise SpecError(Problem("usage", message, hint))
        return experiment
    if not isinstance(experiment, str | Path):
        raise wrong_type("experiment", experiment, "an Experiment or the path of a spec")
    return load(experiment, overrides)


def check_arguments(progress: object, **switches: object) -> None:
    """Raise SpecError for a progress callback that cannot be called, or a wrong switch.

    Switches are True or False: a path would count as True.
    """
    if progress is not None and not callable(progress):
        raise wrong_type("progress", progress, "a function of (done, total)")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise wrong_type(name, value, "True or False")
