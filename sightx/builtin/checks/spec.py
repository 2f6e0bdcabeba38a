"""Rules that settings and the traits of a dataset decide: nothing is opened, nothing is built."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sightx.plugin import Check, Finding, Shape, did_you_mean

if TYPE_CHECKING:
    from sightx.plugin import Experiment

_BASE = ("train/loss", "train/accuracy", "validation/loss")


def unknown_monitor(experiment: Experiment) -> Iterator[Finding]:
    """Find monitors that no metric of the experiment will ever write."""
    classes = experiment.dataset.traits().classes
    known = [*_BASE, *_figures(experiment, classes or ())]
    for path, name in _monitors(experiment):
        per_class = classes is None and any(name.startswith(f"{figure}/") for figure in known)
        if name not in known and not per_class:
            message = f"{name!r} is no figure of this experiment"
            yield Finding(path, message, _other_figure(experiment, name, known))


def _other_figure(experiment: Experiment, name: str, known: list[str]) -> str:
    """Return which figure is meant: of the other side, of a metric left out, or the nearest."""
    side, _, figure = name.partition("/")
    registry = experiment.context.registry
    metric = figure.partition("/")[0]
    if f"validation/{figure}" in known:
        return f"did you mean 'validation/{figure}'?"
    others = set(registry.names("metric") if registry else ()) - {m.name for m in experiment.metric}
    if side == "validation" and metric in others:
        return f'a [[metric]] with use = "{metric}" would write it'
    return did_you_mean(name, known) or f"there are {', '.join(known[:8])}"


def empty_monitor(experiment: Experiment) -> Iterator[Finding]:
    """Find monitors of a validation side that has no samples."""
    if "validation" in experiment.split.empty():
        for path, name in _monitors(experiment):
            if name.startswith("validation/"):
                hint = "give split.validation a share, or monitor train/loss"
                yield Finding(path, f"{name!r} is never computed: the side is empty", hint)


def step_unreached(experiment: Experiment) -> Iterator[Finding]:
    """Find a step that is never taken."""
    step, epochs = getattr(experiment.scheduler, "step_size", 0), experiment.training.epochs
    if step >= epochs:
        message = f"a step after {step} epochs is never taken in {epochs}"
        yield Finding("scheduler.step_size", message, f"below {epochs}, or another scheduler")


def patience_unreached(experiment: Experiment) -> Iterator[Finding]:
    """Find a patience that cannot run out."""
    epochs = experiment.training.epochs
    for path, part in (("scheduler", experiment.scheduler), ("stopping", experiment.stopping)):
        patience = getattr(part, "patience", 0)
        if patience >= epochs:
            message = f"a patience of {patience} epochs cannot run out in {epochs}"
            yield Finding(f"{path}.patience", message, f"below {epochs}")


def long_warmup(experiment: Experiment) -> Iterator[Finding]:
    """Find a warm-up that never ends."""
    warmup, epochs = experiment.scheduler.warmup, experiment.training.epochs
    if warmup > epochs:
        message = f"{warmup:g} epochs of warm-up are longer than training ({epochs})"
        yield Finding("scheduler.warmup", message, f"at most {epochs}")


def double_warmup(experiment: Experiment) -> Iterator[Finding]:
    """Find a warm-up on top of a schedule that begins with one."""
    if experiment.scheduler.name == "one-cycle" and experiment.scheduler.warmup:
        message = "one-cycle rises by itself, the warm-up multiplies that"
        yield Finding("scheduler.warmup", message, "leave it out, or change peak_at")


def double_balance(experiment: Experiment) -> Iterator[Finding]:
    """Find rare classes that count twice: seen more often, and weighing more."""
    sampler, loss = experiment.sampler, experiment.loss
    if sampler.balances and loss.balances:
        message = f"rare classes count twice: {sampler.name} sampler and {loss.name}"
        yield Finding("sampler", message, 'sampler.use = "shuffle", or loss.use = "cross-entropy"')


def no_size(experiment: Experiment) -> Iterator[Finding]:
    """Find a chain whose images come out in different sizes."""
    shape = Shape(*(experiment.dataset.traits().shape or (3, None, None)))
    for prepare in experiment.preprocess:
        shape = prepare.shape(shape)
    if shape.height is None or shape.width is None:
        hint = "end it with resize (fit stretch, pad or cover) or center-crop"
        yield Finding("preprocess", "the chain does not end in one size", hint)


def unknown_part(experiment: Experiment) -> Iterator[Finding]:
    """Find names in `trainable` that are no part of the network."""
    parts = experiment.model.parts()
    for pattern in experiment.model.trainable if parts is not None else ():
        head = pattern.partition(".")[0]
        if not any(fnmatchcase(part, head) for part in parts or ()):
            close = did_you_mean(pattern, parts or ())
            hint = " ".join(filter(None, [close, f"parts: {', '.join(parts or ())}"]))
            yield Finding("model.trainable", f"no part is called {pattern!r}", hint)


def unknown_arch(experiment: Experiment) -> Iterator[Finding]:
    """Find names that torchvision has no network for."""
    if experiment.model.name != "torchvision":
        return
    arch: str = getattr(experiment.model, "arch", "")
    release, *known = (files("sightx.builtin.models") / "torchvision_names.txt").read_text().split()
    newer = _numbers(version("torchvision")) > _numbers(release)  # it may know more than the list
    if arch not in known and not newer:
        hint = did_you_mean(arch, known, 3) or "resnet18 and vit_b_16 are some"
        message = f"torchvision has no classification network {arch!r}"
        yield Finding("model.arch", message, hint)


def frozen_random(experiment: Experiment) -> Iterator[Finding]:
    """Find parts that keep the random weights they began with."""
    if experiment.model.weights == "none" and experiment.model.trainable:
        message = "parts that do not learn keep random weights"
        yield Finding("model.weights", message, "name weights, or model.trainable = []")


def accuracy_on_imbalance(experiment: Experiment) -> Iterator[Finding]:
    """Find a best-by-accuracy where always giving one answer is accurate already."""
    traits = experiment.dataset.traits()
    if (traits.majority or 0) < 0.6:
        return
    better = "validation/qwk" if traits.ordered else "validation/balanced-accuracy"
    for path, name in _monitors(experiment):
        if name == "validation/accuracy":
            message = (
                f"one class is {traits.majority:.0%} of the data: its answer alone reaches that"
            )
            yield Finding(path, message, f"monitor {better}")


def given_without_split(experiment: Experiment) -> Iterator[Finding]:
    """Find a split that a dataset does not bring."""
    dataset = experiment.dataset
    if experiment.split.name == "given" and not dataset.traits().has_split:
        message = f"the dataset {dataset.name!r} brings no split"
        hint = "grouped" if dataset.traits().has_groups else "stratified"
        yield Finding("split.use", message, f'split.use = "{hint}"')


def groups_divided(experiment: Experiment) -> Iterator[Finding]:
    """Find a split that deals samples of one group to different sides."""
    if experiment.split.name == "stratified" and experiment.dataset.traits().has_groups:
        message = "samples of one group, such as a patient's, come to different sides"
        yield Finding("split.use", message, 'split.use = "grouped"')


def needs_order(experiment: Experiment) -> Iterator[Finding]:
    """Find what only grades have."""
    if experiment.dataset.traits().ordered:
        return
    sections: dict[str, Any] = {"metric": experiment.metric, "postprocess": experiment.postprocess}
    for section, components in sections.items():
        for number, component in enumerate(components):
            if component.needs_order:
                message = f"{component.name} needs ordered classes"
                hint = "write dataset.ordered = true if they are grades"
                yield Finding(f"{section}.{number}.use", message, hint)


def mirrored_labels(experiment: Experiment) -> Iterator[Finding]:
    """Find mirroring where left and right are labels."""
    if not experiment.dataset.traits().handed:
        return
    for number, augment in enumerate(experiment.augment):
        if augment.mirrors():
            message = f"{augment.name} makes labels wrong: classes tell left from right"
            yield Finding(f"augment.{number}", message, "leave it out")


def one_name_twice(experiment: Experiment) -> Iterator[Finding]:
    """Find policies that write the same checkpoint name."""
    names = [policy.name for policy in experiment.checkpoint]
    for number, name in enumerate(names):
        if name in names[:number]:
            message = f"two policies keep a checkpoint called {name!r}"
            yield Finding(f"checkpoint.{number}", message, "leave one out")


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")[:2]]


def _figures(experiment: Experiment, classes: tuple[str, ...]) -> list[str]:
    return [f"validation/{name}" for metric in experiment.metric for name in metric.values(classes)]


def _monitors(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the path and name of each figure that something follows."""
    yield "training.monitor", experiment.training.monitor
    parts: list[tuple[str, Any]] = [
        ("scheduler", experiment.scheduler),
        ("stopping", experiment.stopping),
        *((f"checkpoint.{n}", policy) for n, policy in enumerate(experiment.checkpoint)),
    ]
    for path, part in parts:
        if name := getattr(part, "monitor", None):
            yield f"{path}.monitor", name


CHECKS = [
    Check("unknown-monitor", "a figure that is never written is never best", unknown_monitor),
    Check("empty-monitor", "a side without samples has no figures", empty_monitor),
    Check("step-unreached", "the rate would stay as it is", step_unreached, severity="warning"),
    Check(
        "patience-unreached", "nothing would ever happen", patience_unreached, severity="warning"
    ),
    Check("long-warmup", "the rate would never reach its full size", long_warmup),
    Check("double-warmup", "two rises multiply", double_warmup, severity="warning"),
    Check("double-balance", "rare classes would count twice", double_balance, severity="warning"),
    Check("no-size", "a batch holds images of one size", no_size),
    Check("unknown-part", "nothing would learn there", unknown_part),
    Check("unknown-arch", "the name must be torchvision's", unknown_arch),
    Check("frozen-random", "a random part teaches nothing", frozen_random, severity="warning"),
    Check(
        "accuracy-on-imbalance",
        "the largest class alone is accurate",
        accuracy_on_imbalance,
        severity="warning",
    ),
    Check("given-without-split", "the dataset must say who is on which side", given_without_split),
    Check("groups-divided", "the test would know its patients", groups_divided, severity="warning"),
    Check("needs-order", "distance between classes means nothing there", needs_order),
    Check("mirrored-labels", "a mirror image has another label", mirrored_labels),
    Check("one-name-twice", "the second would take the first one's place", one_name_twice),
]
