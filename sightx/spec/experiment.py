"""The experiment: a spec with every name resolved and every default filled in; nothing is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sightx.errors import PluginError, Problem, SightXError
from sightx.io.toml import Document, Position
from sightx.registry import declarations
from sightx.registry.components import (
    Component,
    PathKind,
    Settings,
    Traits,
    to_plain,
    validate_component,
)
from sightx.registry.kinds import (
    Augment,
    Average,
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
    Quality,
    Sampler,
    Scheduler,
    Split,
    Stopping,
)
from sightx.registry.loading import load_registry
from sightx.registry.project import Project, find_project
from sightx.registry.registry import Registry
from sightx.registry.validation_errors import explain_errors, spec_failure
from sightx.spec.about import About
from sightx.spec.paths import iter_tables, resolve_paths

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(gt=0, lt=1)]
Tta = Literal["none", "horizontal-flip", "flips", "d4", "flip-and-shift"]
DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d+)?|mps)$"
Tables = Mapping[str, Any] | Sequence[Mapping[str, Any]]
AnyComponent = TypeVar("AnyComponent", bound=Component)


class Training(Settings):
    """Settings of the training loop that change results."""

    epochs: PositiveInt = 20
    """Number of passes over the training samples."""
    batch_size: PositiveInt = 32
    """Samples per step, over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Samples per forward and backward pass; left out, the whole batch."""
    # A factory, because the default depends on the dataset: a JSON Schema must not show it.
    monitor: str = Field(default_factory=lambda: "validation/balanced-accuracy")
    """Metric that best, plateau and early follow; left out, qwk or balanced-accuracy."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the network's computations; weights stay fp32."""
    clip_grad_norm: NonNegativeFloat = 0.0
    """Maximum norm of the gradient; 0 means no clipping."""


class Evaluation(Settings):
    """How images are predicted, when the test split is scored, and what is judged."""

    test: Literal["end", "on-request"] = "end"
    """After training, with the best checkpoint if there is one, or only by `sightx evaluate`."""
    tta: Tta = "none"
    """Test-time augmentation: outputs are means over 2 to 8 flips, turns and shifts of an image."""
    positive: tuple[str, ...] | None = None
    """Classes that are positive in a binary decision, such as those to refer; None: no decision."""
    target_sensitivity: Share = 0.95
    """Sensitivity on validation of the operating point `high-sensitivity` of the decision."""
    target_specificity: Share = 0.95
    """Specificity on validation of the operating point `high-specificity` of the decision."""


class Execution(Settings):
    """Settings that do not change results; they are recorded, but not part of the experiment id."""

    device: Annotated[str, Field(pattern=DEVICE_PATTERN)] = "auto"
    """Device of the network: cpu, cuda, cuda:1, mps; auto takes cuda, then mps, then cpu."""
    threads: NonNegativeInt = 0
    """Threads that decode images; 0 means one per core."""
    cache: Literal["auto", "device", "memory", "disk", "off"] = "auto"
    """Where preprocessed pixels are kept; off keeps none, and decodes images for every batch."""
    cache_features: Literal["auto", "off"] = "auto"
    """Whether the outputs of frozen first layers are computed only once per image."""
    compile: bool = False
    """Whether to compile the network with torch.compile."""
    cuda_graph: bool = False
    """Whether to replay full batches as a CUDA graph, if its first steps equal eager steps."""
    deterministic: bool = False
    """Whether to use only deterministic algorithms on an accelerator."""
    save_every_steps: NonNegativeInt = 0
    """Steps between two saves, in addition to those of the checkpoint policies; 0 means never."""
    save_every_minutes: NonNegativeFloat = 10.0
    """Minutes between two saves; 0 means never."""
    group_timeout: PositiveFloat = 600.0
    """Seconds that one of several processes waits for the others before the run fails."""


@dataclass(frozen=True)
class Context:
    """Where an experiment comes from.

    Attributes:
        project: The project of the spec; for Python, that of the working folder.
        registry: The components of the project.
        spec: The merged document, with the position of every key; empty for Python.
        text: The spec as written; "" for Python.
        path: The file of the spec; None for Python.
        overrides: The `key=value` overrides.
        notes: A line for each override that drops settings of the spec.
    """

    project: Project
    registry: Registry = field(repr=False)
    spec: Document = field(repr=False)
    text: str = ""
    path: Path | None = None
    overrides: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_working_folder(cls) -> Context:
        """Return the context of an experiment that is built in Python."""
        project = find_project(Path.cwd())
        return cls(project, load_registry(project), Document("", "", {}, {}))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Drop the context when an experiment is pickled: a registry holds modules."""
        return type(None), ()


def dataset_traits(dataset: Dataset) -> Traits:
    """Return the traits of a dataset. Raises PluginError if its method fails."""
    try:
        return declarations.dataset_traits(dataset)
    except (SightXError, KeyboardInterrupt):
        raise
    except BaseException as error:
        message = f"the dataset {dataset.name!r} failed: {type(error).__name__}: {error}"
        hint = "add --debug to see its traceback"
        raise PluginError(Problem("broken-plugin", message, hint)) from error


def _default(default: Tables | Callable[[Traits], Tables]) -> Any:
    """Declare a section whose default is written, and validated, like a section of a spec.

    A function chooses the default from the traits of the dataset, which are the default traits
    while the dataset is unknown.
    """

    def section(validated: dict[str, Any]) -> Tables:
        if not callable(default):
            return default
        dataset = validated.get("dataset")
        return default(dataset_traits(dataset) if dataset else Traits())

    return Field(default_factory=section, validate_default=True)


def _default_split(traits: Traits) -> Tables:
    if traits.has_split:
        return {"use": "given"}
    return {"use": "grouped"} if traits.has_groups else {"use": "stratified"}


def _default_metrics(traits: Traits) -> Tables:
    names = ["accuracy", "balanced-accuracy", "precision", "recall", "f1"]
    return tuple({"use": name} for name in (*names, *(["qwk"] if traits.ordered else [])))


DEFAULT_OBSERVERS = ({"use": "curves"}, {"use": "report"})  # in addition to those of the spec
_NOT_IDENTITY = {"name", "about", "allow", "schema_version", "observer", "execution"}


class Experiment(Settings):  # noqa: PLW1641 - pydantic hashes the fields
    """Everything that determines a result, and how to compute it.

    Fields are in the order in which they are validated: a default may depend on fields above it.
    """

    name: Name
    """Name of the runs: letters, digits, `.`, `_` and `-`, at most 64."""
    seed: NonNegativeInt = 0
    """Seed of the weights, the order of samples and all random draws, but not of the split."""
    allow: tuple[str, ...] = ()
    """Codes of warnings that are known and accepted."""
    schema_version: Literal[1] = 1
    """Version of the spec language; there is only one so far."""
    about: About | None = None
    dataset: Dataset
    split: Split = _default(_default_split)
    """Left out: given if the dataset has a split, grouped if it has groups, else stratified."""
    preprocess: tuple[Preprocess, ...] = _default(
        lambda traits: () if traits.shape else ({"use": "resize", "size": 224},)
    )
    """Left out: resize to 224, unless the images of the dataset are preprocessed already."""
    normalize: Normalize = _default({"use": "model"})
    augment: tuple[Augment, ...] = ()
    sampler: Sampler = _default({"use": "shuffle"})
    model: Model
    loss: Loss = _default({"use": "cross-entropy"})
    optimizer: Optimizer = _default({"use": "adam"})
    scheduler: Scheduler = _default({"use": "constant"})
    average: Average | None = None
    """Left out, the weights of the last step are evaluated and saved."""
    training: Training = _default({})
    postprocess: tuple[Postprocess, ...] = ()
    quality: Quality | None = None
    """Left out, every image gets a grade, however dark or blurred."""
    metric: tuple[Metric, ...] = _default(_default_metrics)
    """Accuracy is always computed, and so is the metric of the default monitor."""
    checkpoint: tuple[Checkpoint, ...] = _default(({"use": "best"},))
    """The last checkpoint is always kept."""
    stopping: Stopping = _default({"use": "never"})
    evaluation: Evaluation = Evaluation()
    execution: Execution = Execution()
    observer: tuple[Observer, ...] = _default(DEFAULT_OBSERVERS)
    """Curves are plotted and a report is written, unless the array is empty or disables them."""

    _context: Context | None = PrivateAttr(default=None)

    def __init__(self, /, **values: Any) -> None:
        """Build an experiment in Python.

        Sections are components, or tables as a spec would write them, such as
        `{"use": "resnet50"}`. Names, places and relative paths in tables are those of the working
        folder. Raises SpecError or PluginError with every problem.
        """
        context = Context.of_working_folder()
        document = Document("", "", _copy_tables(values), {})
        resolve_paths(Experiment, document, context.registry, context.project)
        arrays = {key: tuple(v) for key, v in document.data.items() if isinstance(v, list)}
        try:
            self.__pydantic_validator__.validate_python(
                {**document.data, **arrays},
                self_instance=self,
                context={"registry": context.registry},
            )
        except ValidationError as error:
            tables = iter_tables(Experiment, document.data, context.registry)
            classes = {key: cls for key, cls, _ in tables}
            raise spec_failure(
                explain_errors(error, lambda key: Position(""), classes.get)
            ) from None
        self._context = context

    # pydantic would otherwise call __init__ also for a spec that is read from a file.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("training")
    @classmethod
    def _choose_monitor(cls, training: Training, info: ValidationInfo) -> Training:
        """Let the dataset decide what is monitored, if the spec does not."""
        dataset = info.data.get("dataset")
        if "monitor" in training.model_fields_set or not dataset:
            return training
        metric = "qwk" if dataset_traits(dataset).ordered else "balanced-accuracy"
        chosen = training.model_copy(update={"monitor": f"validation/{metric}"})
        chosen.model_fields_set.remove("monitor")  # it is still a default
        return chosen

    @field_validator("metric")
    @classmethod
    def _add_metrics(cls, metrics: tuple[Metric, ...], info: ValidationInfo) -> tuple[Metric, ...]:
        """Add accuracy, and the metric of the default monitor."""
        names = ["accuracy"]
        training = info.data.get("training")
        if training and "monitor" not in training.model_fields_set:
            names.insert(0, training.monitor.removeprefix("validation/"))
        return _add_missing(Metric, metrics, names, info)

    @field_validator("checkpoint")
    @classmethod
    def _add_last_checkpoint(
        cls, policies: tuple[Checkpoint, ...], info: ValidationInfo
    ) -> tuple[Checkpoint, ...]:
        """Add the policy that keeps the last checkpoint, which resuming needs."""
        return _add_missing(Checkpoint, policies, ["last"], info)

    @field_validator("observer")
    @classmethod
    def _add_default_observers(
        cls, observers: tuple[Observer, ...], info: ValidationInfo
    ) -> tuple[Observer, ...]:
        """Add the default observers to those of the spec; an empty array means none."""
        names = [table["use"] for table in DEFAULT_OBSERVERS]
        return _add_missing(Observer, observers, names, info) if observers else ()

    @property
    def context(self) -> Context:
        """Return where the experiment comes from; the working folder if it does not know."""
        if self._context is None:
            self._context = Context.of_working_folder()
        return self._context

    def __eq__(self, other: object) -> bool:
        """Return whether two experiments have equal settings; their contexts may differ."""
        return isinstance(other, Experiment) and self.__dict__ == other.__dict__

    def with_context(self, context: Context) -> Experiment:
        """Return a copy with another context."""
        copy = self.model_copy()
        copy._context = context
        return copy

    @property
    def identity(self) -> dict[str, Any]:
        """Return the settings that define the experiment, as plain tables.

        Not included: the name, paths other than file names, observers and `[execution]`.
        """
        tables = to_plain(self, identity=True, convert_path=_identity_of_path)
        return {key: value for key, value in tables.items() if key not in _NOT_IDENTITY}

    @property
    def id(self) -> str:
        """Return the SHA-256 of the identity and of each component's revision."""
        revisions = sorted({f"{c.kind}:{c.name}:{c.revision}" for c in iter_components(self)})
        text = json.dumps([self.identity, revisions], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def tables(self) -> dict[str, Any]:
        """Return the whole experiment as plain tables, as a spec would write it."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def iter_components(settings: Settings) -> Iterator[Component]:
    """Yield every component of an experiment except observers, with components inside others."""
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Component) and not isinstance(item, Observer):
                yield item
            if isinstance(item, Settings):
                yield from iter_components(item)


def _add_missing(
    kind: type[AnyComponent],
    components: tuple[AnyComponent, ...],
    names: list[str],
    info: ValidationInfo,
) -> tuple[AnyComponent, ...]:
    present = {component.name for component in components}
    missing = [{"use": name} for name in dict.fromkeys(names) if name not in present]
    registry = (info.context or {})["registry"]
    return (*components, *(validate_component(kind, table, registry) for table in missing))


def _copy_tables(value: Any) -> Any:
    """Copy tables and arrays as TOML would hold them; components stay as they are."""
    if isinstance(value, Mapping):
        return {key: _copy_tables(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy_tables(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _identity_of_path(value: Any, kind: PathKind) -> Any:
    """Return file names without folders, or None if the path is not part of the identity."""
    if not kind.part_of_identity:
        return None
    if isinstance(value, (tuple, list)):
        return [_identity_of_path(item, kind) for item in value]
    return Path(value).name if str(value).endswith(kind.suffixes or "") else value
