"""The initial weights of a run: where they come from, read before any data is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from sightx.io.toml import Document
from sightx.registry.kinds import Model
from sightx.run_registry.find import find_run
from sightx.runs import checkpoints, names
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.spec.paths import path_hint
from sightx.training.setup import head_tensors
from sightx.training.weights import LoadedWeights, initialise, is_file
from sightx.training.weights_file import Tables, read_tables, require_file

_RUN = "run:"


@dataclass(frozen=True)
class InitialWeights:
    """Weights before they are loaded into a network.

    Attributes:
        source: A file, "none", or a name that the model knows.
        tables: The tables of tensors in the file; None if it is not a file.
        classes: The classes that the network of a checkpoint was trained for; () if unknown.
    """

    source: str = "none"
    tables: Tables | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def read(cls, source: str, spec: Document | None = None) -> InitialWeights:
        """Read the file that weights come from, if they come from a file.

        The files of a checkpoint are compared with their hashes, as for a prediction. Raises
        ResourceError if there is no such file, RunError if it is damaged or cannot be read safely;
        `spec`, if its `model.weights` names the file, says where a relative path was looked for.
        """
        path = Path(source)
        if not is_file(source):
            return cls(source)
        if path.name != checkpoints.WEIGHTS or not (path.parent / checkpoints.MANIFEST).is_file():
            require_file(path, path_hint(spec, ("model", "weights")) if spec else "")
            return cls(source, read_tables(path))
        files = checkpoints.read_verified(path.parent)
        classes = tuple(json.loads(files["recipe.json"])["classes"])
        return cls(source, {"": checkpoints.parse_weights(files, path.parent)}, classes)

    def load(
        self,
        experiment: Experiment,
        module: nn.Module,
        classes: int,
        shape: tuple[int, int, int],
    ) -> LoadedWeights | None:
        """Load the weights into the fresh network of an experiment; `shape` is that of an image."""
        model = experiment.model
        head = partial(head_tensors, model, experiment.loss, module, classes, shape)
        return initialise(model, module, self.source, tables=self.tables, head=head)

    def warnings(
        self, loaded: LoadedWeights, model: Model, module: nn.Module, classes: Sequence[str]
    ) -> Iterator[str]:
        """Yield what may be wrong with weights that were loaded, for the classes of the data."""
        for name, weight in module.named_parameters():
            if name in loaded.fresh and not weight.requires_grad:
                yield f"model.trainable freezes new weights, which stay random: {name}"
        if self.classes and self.classes != tuple(classes) and model.head != "new":
            before, now = ", ".join(self.classes[:5]), ", ".join(classes[:5])
            yield (
                f"model.weights: its head was trained for the classes {before}; these are {now}; "
                'head = "new" below [model] trains a new one'
            )


def parents_of(source: str) -> list[dict[str, str]]:
    """Return the run whose checkpoint gives the initial weights, as environment.json lists it."""
    path = Path(source).absolute()
    if path.name != checkpoints.WEIGHTS or not names.is_run(path.parents[2]):
        return []
    return [{"run": path.parents[2].name, "why": "weights", "checkpoint": path.parent.name}]


def weights_source(root: Path, weights: str) -> str:
    """Return where weights come from; `run:RUN` becomes the file of that run's checkpoint.

    `root` is the folder of runs.
    """
    if not is_run(weights):
        return weights
    run, checkpoint = _find_checkpoint(root, weights)
    return str(run.checkpoint(checkpoint) / checkpoints.WEIGHTS)


def is_run(weights: str) -> bool:
    """Return whether weights are those of a run, `run:RUN`."""
    return weights.startswith(_RUN)


def with_fixed_run(root: Path, experiment: Experiment) -> Experiment:
    """Return an experiment whose `run:RUN` has the id of the run and the name of a directory.

    `run:last` and `run:best:qwk` mean another run tomorrow, and `run:ID@best` another checkpoint
    after a resume: two runs with different initial weights would have one experiment id.
    """
    weights = experiment.model.weights
    run, checkpoint = _find_checkpoint(root, weights)
    text = weights.removeprefix(_RUN).partition("@")[0]
    is_path = "/" in text and not text.startswith("best:")
    name = f"{text if is_path else run.id}@{run.checkpoint(checkpoint).name}"
    return with_weights(experiment, f"{_RUN}{name}")


def with_weights(experiment: Experiment, weights: str) -> Experiment:
    """Return a copy of an experiment that starts from other weights."""
    model = experiment.model.model_copy(update={"weights": weights})
    return experiment.model_copy(update={"model": model})


def as_recorded(experiment: Experiment, run: Run) -> Experiment:
    """Return an experiment with the checkpoint that its `run:RUN` meant when a run started."""
    weights = experiment.model.weights
    if is_run(weights) and weights == run.environment.get("weights_as_written"):
        return with_weights(experiment, run.environment["experiment"]["model"]["weights"])
    return experiment


def _find_checkpoint(root: Path, weights: str) -> tuple[Run, str]:
    """Return the run that `run:RUN` means, and the name of the checkpoint, "" for its preferred."""
    return find_run(root, weights.removeprefix(_RUN))
