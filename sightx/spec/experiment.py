"""The experiment: a spec made whole, with every name resolved and nothing built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
)

from sightx.io.toml import Document
from sightx.registry.components import Component, PathKind, Settings
from sightx.registry.kinds import (
    Augment,
    Checkpoint,
    Dataset,
    Loss,
    Metric,
    Model,
    Normalize,
    Observer,
    Optimizer,
    Postprocess,
    Preprocess,
    Sampler,
    Scheduler,
    Split,
    Stopping,
)
from sightx.registry.loading import load_registry
from sightx.registry.project import Project, find_project
from sightx.registry.registry import Registry
from sightx.spec.paths import path_kind

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Training(Settings):
    """What the runner itself needs to know, where that changes results."""

    epochs: PositiveInt = 20
    """How often training sees every sample."""
    batch_size: PositiveInt = 32
    """Samples a step, whatever the number of processes."""
    micro_batch_size: PositiveInt | None = None
    """Samples that pass the network at once; left out, the whole batch."""
    monitor: str = "validation/accuracy"
    """The figure that best, plateau and early stopping follow."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the network computes in; weights stay fp32."""
    clip_grad_norm: NonNegativeFloat = 0.0
    """The largest norm that the gradient may have; 0 leaves it alone."""


class Evaluation(Settings):
    """When the test side is looked at."""

    test: Literal["end", "on-request"] = "end"
    """After training, with the best checkpoint if there is one, or only when asked."""


class Execution(Settings):
    """How, not what: recorded, but no part of the experiment's id."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")] = "auto"
    """Where the network lives: cpu, cuda, cuda:1, mps; auto takes cuda, then mps, then cpu."""
    threads: NonNegativeInt = 0
    """Threads that decode images; 0 means one for each core."""
    cache: Literal["auto", "device", "memory", "disk", "off"] = "auto"
    """Where prepared pixels are read from; off keeps none, and decodes for every batch."""
    cache_features: Literal["auto", "off"] = "auto"
    """Whether what a frozen prefix of the network makes of each image is computed only once."""
    compile: bool = False
    """Whether torch.compile makes kernels for the network."""
    cuda_graph: bool = False
    """Whether steps are replayed as a CUDA graph, if that proves to be equal and faster."""
    deterministic: bool = False
    """Whether to use only algorithms that repeat exactly on an accelerator."""
    save_every_steps: NonNegativeInt = 0
    """Save the state after so many steps too, besides what the policies say; 0: never."""
    save_every_minutes: NonNegativeFloat = 10.0
    """Save the state when so many minutes have passed since the last save; 0: never."""
    group_timeout: PositiveFloat = 600.0
    """Seconds that one of several processes waits for another before the run fails."""


@dataclass(frozen=True)
class Context:
    """Where an experiment was read: its project, the plugins loaded for it, and its spec.

    `spec` is the merged document, with the position of every key, and `text` the file as written;
    `path` is None for an experiment built in Python.
    """

    project: Project
    registry: Registry = field(repr=False)
    spec: Document = field(repr=False)
    text: str = ""
    path: Path | None = None
    overrides: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> Context:
        """Return the context of an experiment built in Python: the working folder's project."""
        project = find_project(Path.cwd())
        return cls(project, load_registry(project), Document("experiment", "", {}, {}))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Leave the context behind when an experiment is pickled: a registry holds modules."""
        return type(None), ()


_APART = {"name", "allow", "schema_version", "observer", "execution"}  # no part of the id


class Experiment(Settings):  # noqa: PLW1641 - pydantic hashes the fields
    """Everything that determines a result, and how to get it."""

    name: Name
    """What runs are called: letters, digits, `.`, `_` and `-`, at most 64."""
    seed: NonNegativeInt = 0
    """What weights, order and draws depend on; never the split."""
    allow: tuple[str, ...] = ()
    """Codes of warnings that are known and meant."""
    schema_version: Literal[1] = 1
    """The version of the language that the spec is written in; so far there is one."""
    dataset: Dataset
    split: Split
    preprocess: tuple[Preprocess, ...]
    normalize: Normalize
    augment: tuple[Augment, ...] = ()
    sampler: Sampler
    model: Model
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    postprocess: tuple[Postprocess, ...] = ()
    metric: tuple[Metric, ...]
    checkpoint: tuple[Checkpoint, ...]
    stopping: Stopping
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    execution: Execution = Execution()
    observer: tuple[Observer, ...] = ()

    _context: Context | None = PrivateAttr(default=None)

    @property
    def context(self) -> Context:
        """Return where the experiment was read; for one built in Python, the working folder."""
        if self._context is None:
            self._context = Context.here()
        return self._context

    def __eq__(self, other: object) -> bool:
        """Say whether two experiments are the same, wherever they were read."""
        return isinstance(other, Experiment) and self.__dict__ == other.__dict__

    def with_context(self, context: Context) -> Experiment:
        """Return a copy with its context set."""
        copy = self.model_copy()
        copy._context = context
        return copy

    @property
    def identity(self) -> dict[str, Any]:
        """Return what the experiment is, as tables: no name, place, observer or execution."""
        found = to_table(self, identity=True)
        return {key: value for key, value in found.items() if key not in _APART}

    @property
    def id(self) -> str:
        """Return the hash of the identity and of each component's revision."""
        revisions = sorted({f"{c.kind}:{c.name}:{c.revision}" for c in iter_components(self)})
        text = json.dumps([self.identity, revisions], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def tables(self) -> dict[str, Any]:
        """Return the whole experiment as a spec would say it."""
        return to_table(self)


def iter_components(settings: Settings) -> Iterator[Component]:
    """Yield every component of an experiment, those inside components too; observers watch only."""
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Component) and not isinstance(item, Observer):
                yield item
            if isinstance(item, Settings):
                yield from iter_components(item)


def to_table(settings: Settings, *, identity: bool = False) -> dict[str, Any]:
    """Return settings as TOML holds them; with `identity`, without what differs by machine."""
    result: dict[str, Any] = {}
    if isinstance(settings, Component):
        result["use"] = settings.name if identity else settings.use
    for key, info in type(settings).model_fields.items():
        value = getattr(settings, key)
        anchor = path_kind(info)
        if value is None or (identity and anchor and not anchor.counts):
            continue
        result[key] = _plain(value, identity=identity)
        if identity and anchor:
            result[key] = _file_names(result[key], anchor)
    return result


def _file_names(value: Any, anchor: PathKind) -> Any:
    """Return the names alone of what are paths: where a machine keeps a file does not count."""
    if isinstance(value, list):
        return [_file_names(item, anchor) for item in value]
    return Path(value).name if str(value).endswith(anchor.suffixes or "") else value


def _plain(value: Any, *, identity: bool) -> Any:
    if isinstance(value, Settings):
        return to_table(value, identity=identity)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, identity=identity) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(item, identity=identity) for item in value]
    return value
