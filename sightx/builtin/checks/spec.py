"""Checks that need only the settings and the traits of the dataset: no data, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sightx.plugin import (
    Augment,
    Check,
    Component,
    Dataset,
    Finding,
    Model,
    Optimizer,
    Scheduler,
    Shape,
    did_you_mean,
)

from .monitor import monitors

if TYPE_CHECKING:
    from sightx.plugin import Experiment

_KIND_SETTINGS = {cls.kind: set(cls.model_fields) for cls in (Dataset, Model, Optimizer, Scheduler)}
_IMBALANCED = 0.6  # share of the largest class from which accuracy is misleading


def double_balance(experiment: Experiment) -> Iterator[Finding]:
    """Find rare classes that are both sampled more often and weighted more."""
    sampler, loss = experiment.sampler, experiment.loss
    if sampler.balances and loss.balances:
        message = f"the sampler {sampler.name} and the loss {loss.name} both favour rare classes"
        yield Finding("sampler", message, 'sampler.use = "shuffle", or loss.use = "cross-entropy"')


def unusual_order(experiment: Experiment) -> Iterator[Finding]:
    """Find grades whose order is neither the one that their names suggest nor its reverse."""
    from sightx.plugin import likely_order

    traits = experiment.dataset.traits()
    classes = list(traits.classes or ())
    likely = list(likely_order(classes))
    if traits.ordered and likely and classes not in (likely, likely[::-1]):
        message = f"the order {', '.join(classes)} is unusual: errors between grades are misjudged"
        listed = json.dumps(likely, ensure_ascii=False)
        yield Finding("dataset.classes", message, f"write classes = {listed}")


def no_size(experiment: Experiment) -> Iterator[Finding]:
    """Find preprocessing after which images have different sizes."""
    shape = Shape(*(experiment.dataset.traits().shape or (3, None, None)))
    for step in experiment.preprocess:
        shape = step.shape(shape)
    if shape.height is None or shape.width is None:
        hint = "end with resize (fit stretch, pad or cover) or center-crop"
        yield Finding("preprocess", "preprocessed images may have different sizes", hint)


def unknown_part(experiment: Experiment) -> Iterator[Finding]:
    """Find names in `trainable` that are not parts of the network."""
    parts = experiment.model.parts()
    if parts is None:
        return
    for pattern in experiment.model.trainable:
        first = pattern.partition(".")[0]
        if not any(fnmatchcase(part, first) for part in parts):
            hint = " ".join(
                filter(None, [did_you_mean(pattern, parts), f"parts: {', '.join(parts)}"])
            )
            yield Finding("model.trainable", f"the model has no part called {pattern!r}", hint)


def frozen_random(experiment: Experiment) -> Iterator[Finding]:
    """Find frozen parts with random weights."""
    if experiment.model.weights == "none" and experiment.model.trainable:
        message = "frozen parts keep their random initial weights"
        yield Finding("model.weights", message, "set model.weights, or model.trainable = []")


def unused_head(experiment: Experiment) -> Iterator[Finding]:
    """Find a choice about the head of weights that are not given."""
    if experiment.model.weights == "none" and experiment.model.head in {"new", "load"}:
        message = f"head = {experiment.model.head!r} has no effect: all weights are random"
        yield Finding("model.head", message, "set model.weights, or leave model.head out")


def accuracy_on_imbalance(experiment: Experiment) -> Iterator[Finding]:
    """Find monitors that are high if the largest class is always predicted."""
    traits = experiment.dataset.traits()
    share = traits.majority_share or 0.0
    if share < _IMBALANCED:
        return
    misleading = {
        f"validation/{name}"
        for metric in experiment.metric
        if metric.rewards_majority
        for name in metric.values(traits.classes or ())
    }
    better = "validation/qwk" if traits.ordered else "validation/balanced-accuracy"
    for path, monitor in monitors(experiment):
        if monitor in misleading:
            message = f"always predicting the largest class reaches {share:.0%} already"
            yield Finding(path, message, f"monitor {better}")


def given_without_split(experiment: Experiment) -> Iterator[Finding]:
    """Find the use of a dataset's split if the dataset has none."""
    traits = experiment.dataset.traits()
    if experiment.split.uses_dataset_split and not traits.has_split:
        message = f"the dataset {experiment.dataset.name!r} has no split"
        use = "grouped" if traits.has_groups else "stratified"
        yield Finding("split.use", message, f'split.use = "{use}"')


def groups_divided(experiment: Experiment) -> Iterator[Finding]:
    """Find a split that ignores the groups of a dataset."""
    if experiment.split.ignores_groups and experiment.dataset.traits().has_groups:
        message = "samples of one group, such as a patient, may be in different splits"
        yield Finding("split.use", message, 'split.use = "grouped"')


def views_of_oblong_images(experiment: Experiment) -> Iterator[Finding]:
    """Find quarter turns at test time of images that are not square."""
    shape = Shape(*(experiment.dataset.traits().shape or (3, None, None)))
    for step in experiment.preprocess:
        shape = step.shape(shape)
    if experiment.evaluation.tta == "d4" and shape.height != shape.width:
        message = f"d4 turns images by 90 degrees, and they are {shape.height} x {shape.width}"
        yield Finding("evaluation.tta", message, 'evaluation.tta = "flips"')


def needs_order(experiment: Experiment) -> Iterator[Finding]:
    """Find components for ordered classes on a dataset without an order."""
    if experiment.dataset.traits().ordered:
        return
    has_key = "ordered" in type(experiment.dataset).model_fields
    hint = "write dataset.ordered = true if they are grades" if has_key else "leave it out"
    for path, component in _components(experiment):
        if component.needs_order:
            yield Finding(f"{path}.use", f"{component.name} needs ordered classes", hint)


def _components(
    settings: Experiment | Component, prefix: str = ""
) -> Iterator[tuple[str, Component]]:
    """Yield every component inside of settings, with its key, and those inside of it."""
    for key, value in settings:
        for number, component in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(component, Component):
                path = f"{prefix}{key}" + f".{number}" * isinstance(value, tuple)
                yield path, component
                yield from _components(component, f"{path}.")


def nested_settings(experiment: Experiment) -> Iterator[Finding]:
    """Find settings of a component inside of another one that only the outer one has a use for.

    SightX itself reads the settings that all components of these kinds have, such as
    `trainable`, and it reads them from the outer component.
    """
    for kind, settings in _KIND_SETTINGS.items():
        for path, inner in _components(getattr(experiment, kind), f"{kind}."):
            for setting in sorted(inner.model_fields_set & settings) if inner.kind == kind else ():
                article = "an" if kind[0] in "aeiou" else "a"
                message = f"{setting} has no effect in {article} {kind} inside of another"
                yield Finding(f"{path}.{setting}", message, f"write {kind}.{setting}")


def mirrored_labels(experiment: Experiment) -> Iterator[Finding]:
    """Find mirroring if classes distinguish left from right."""
    if not experiment.dataset.traits().handed:
        return
    for number, augment in enumerate(experiment.augment):
        if augment.mirrors():
            message = f"{augment.name} mirrors images, but the classes tell left from right"
            yield Finding(f"augment.{number}", message, "leave it out")
    if experiment.evaluation.tta != "none":
        message = "test-time augmentation mirrors images, but the classes tell left from right"
        yield Finding("evaluation.tta", message, 'evaluation.tta = "none"')


def unknown_column(experiment: Experiment) -> Iterator[Finding]:
    """Find components that use a column that the dataset does not have."""
    known = experiment.dataset.traits().columns
    for path, component in _components(experiment):
        column = getattr(component, "column", None)
        if component.kind not in ("metric", "sampler", "loss") or not isinstance(column, str):
            continue
        if column not in known:
            hint = did_you_mean(column, known) or f"it has {', '.join(known)}"
            if not known:
                has_setting = "extra_columns" in type(experiment.dataset).model_fields
                setting = f'write dataset.extra_columns = ["{column}"]'
                hint = setting if has_setting else "leave it out"
            yield Finding(f"{path}.column", f"the dataset has no extra column {column!r}", hint)


def mixed_targets(experiment: Experiment) -> Iterator[Finding]:
    """Find augmentations that mix classes for a loss that takes single classes only."""
    if experiment.loss.takes_mixed:
        return
    for path, component in _components(experiment):
        if isinstance(component, Augment) and component.mixes:
            message = (
                f"{component.name} mixes classes, and the loss {experiment.loss.name} takes "
                "single classes only"
            )
            yield Finding(path, message, 'leave it out, or loss.use = "cross-entropy"')


def nothing_to_combine(experiment: Experiment) -> Iterator[Finding]:
    """Find postprocessing that combines images of one group if the dataset has no groups."""
    dataset = experiment.dataset
    if dataset.traits().has_groups:
        return
    keys = [key for key in ("group", "groups") if key in type(dataset).model_fields]
    hint = f"set dataset.{keys[0]}, the patient of each image" if keys else "leave it out"
    for number, component in enumerate(experiment.postprocess):
        if component.combines_groups:
            message = f"{component.name} combines images of one group, and there are no groups"
            yield Finding(f"postprocess.{number}.use", message, hint)


def several_scores(experiment: Experiment) -> Iterator[Finding]:
    """Find a loss for a network with one score and a network that computes several."""
    loss, model = experiment.loss, experiment.model
    if loss.needs_one_score and not model.one_score:
        message = f"the loss {loss.name} is for one score with a bias per output; {model.name} has"
        hint = f'model = {{ use = "coral-head", base = {{ use = "{model.name}" }} }}'
        yield Finding("model.use", f"{message} independent outputs", hint)


def one_name_twice(experiment: Experiment) -> Iterator[Finding]:
    """Find policies that give the same name to different checkpoints."""
    names = [policy.best_name or policy.name for policy in experiment.checkpoint]
    for number, name in enumerate(names):
        if name in names[:number]:
            message = f"two policies keep a checkpoint called {name!r}"
            yield Finding(f"checkpoint.{number}", message, "leave one out")


CHECKS = [
    Check(
        "double-balance",
        "a sampler and a loss that both favour rare classes count them twice",
        double_balance,
        severity="warning",
    ),
    Check(
        "order-unusual",
        "metrics and losses of grades need the classes from the lowest to the highest",
        unusual_order,
        severity="warning",
    ),
    Check("no-size", "all images of a batch need the same size", no_size),
    Check("unknown-part", "model.trainable must name parts of the network", unknown_part),
    Check(
        "frozen-random",
        "frozen parts with random weights learn nothing",
        frozen_random,
        severity="warning",
    ),
    Check(
        "unused-head",
        "model.head chooses what to do with the last layer of model.weights",
        unused_head,
        severity="warning",
    ),
    Check(
        "accuracy-on-imbalance",
        "on imbalanced data accuracy is high if the largest class is always predicted",
        accuracy_on_imbalance,
        severity="warning",
    ),
    Check(
        "given-without-split",
        "the dataset must assign its samples to splits",
        given_without_split,
    ),
    Check(
        "groups-divided",
        "if images of one group, such as a patient, are in several splits, test results are too "
        "good",
        groups_divided,
        severity="warning",
    ),
    Check(
        "nested-setting",
        "SightX reads exclude, weights, trainable, lr and the like from the outer component",
        nested_settings,
    ),
    Check("views-not-square", "a quarter turn changes height and width", views_of_oblong_images),
    Check("needs-order", "the component compares classes by their order", needs_order),
    Check("mirrored-labels", "the mirror image has another label", mirrored_labels),
    Check(
        "unknown-column",
        "a metric, sampler or loss by column needs the column in the table",
        unknown_column,
    ),
    Check(
        "mixed-targets",
        "a mixed sample has several classes, and not every loss takes them",
        mixed_targets,
    ),
    Check(
        "no-groups",
        "postprocessing can combine images of one patient only if the patients are known",
        nothing_to_combine,
        severity="warning",
    ),
    Check(
        "several-scores",
        "outputs that do not share one score may contradict each other",
        several_scores,
        severity="warning",
    ),
    Check("one-name-twice", "a checkpoint name can point to only one checkpoint", one_name_twice),
]
