"""Write a first spec for inspected data: it runs, and its comments give reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightx.io.toml import dump_value
from sightx.spec.render import as_comment

_SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
_MEMORY = 4e9  # bytes that all preprocessed images may need
_DOMINANT = 0.6  # above this share, always predicting the largest class looks like success
_STEPS = 3000  # that a small network needs to converge
_FEW = 100  # validation samples: with fewer, a metric of decisions often ties between epochs
_WIDTH = 100


@dataclass(frozen=True)
class DatasetFacts:
    """Facts about some data.

    Attributes:
        name: The name of the experiment.
        source: The path of the data, for a comment.
        dataset: The table [dataset] of the spec.
        reasons: Comments on keys of that table.
        classes: The names of the classes, in order.
        counts: Samples per class, in the train split if the data have `splits`.
        ordered: Whether the classes are grades.
        samples: The number of samples.
        splits: Samples per split, if the data are split already.
        groups: The number of groups, such as patients.
        rarest: The smallest number of samples or groups of a class that can be split.
        size: Median (height, width) of the images in pixels.
        grey: Whether no inspected image has colour.
        remarks: Comments for the top of the spec.
    """

    name: str
    source: str
    dataset: Mapping[str, Any]
    reasons: Mapping[str, str]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    ordered: bool
    samples: int
    splits: Mapping[str, int]
    groups: int
    rarest: int
    size: tuple[int, int]
    grey: bool
    remarks: tuple[str, ...] = ()

    @property
    def majority(self) -> float:
        """Return the share of the largest class."""
        return max(self.counts) / sum(self.counts)


def write_spec(facts: DatasetFacts) -> str:
    """Return a spec as TOML."""
    sections = [
        _head(facts), _dataset(facts), _split(facts), _preprocess(facts), _model(facts),
        _loss(facts), _training(facts),
    ]  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(facts: DatasetFacts) -> Iterator[str]:
    count, classes = f"{facts.samples:,} images", f"{len(facts.classes)} classes"
    yield from _note(f"{count} of {classes} in {facts.source}, inspected by `sightx init`.")
    for remark in facts.remarks:
        yield from _note(remark)
    yield from _note("Settings that are not here have defaults: `sightx show` prints them all.")
    yield f"name = {dump_value(facts.name)}"


def _dataset(facts: DatasetFacts) -> Iterator[str]:
    yield "[dataset]"
    prefix = "train: " if facts.splits else ""
    yield from _note(prefix + _format_counts(facts.classes, facts.counts))
    for key, value in facts.dataset.items():
        yield from _note(facts.reasons.get(key, ""))
        yield f"{key} = {dump_value(value)}"


def _split(facts: DatasetFacts) -> Iterator[str]:
    yield "[split]"
    if facts.splits:
        counts = _format_counts(list(facts.splits), list(facts.splits.values()))
        yield from _note(f"The data are split already: {counts}.")
        yield 'use = "given"'
        if "validation" not in facts.splits:
            yield "validation = 0.1                # of the train split, because there is none"
        return
    if facts.groups:
        yield from _note(f"{facts.groups:,} groups: each belongs to one split.")
    yield f'use = "{"grouped" if facts.groups else "stratified"}"'
    yield from (f"{split} = {share}" for split, share in _shares(facts).items())
    if facts.rarest < 3:
        yield from _note("A class has too few samples for three splits: there is no test split.")


def _validation_samples(facts: DatasetFacts) -> int:
    if facts.splits:
        return facts.splits.get("validation") or int(facts.splits.get("train", 0) * 0.1)
    return int(facts.samples * _shares(facts)["validation"])


def _shares(facts: DatasetFacts) -> dict[str, float]:
    share = 0.1 if facts.samples >= 1000 else 0.2  # a smaller split would measure nothing
    return {"validation": share, "test": share if facts.rarest >= 3 else 0.0}


def _preprocess(facts: DatasetFacts) -> Iterator[str]:
    height, width = facts.size
    if facts.grey:
        yield from [
            "[[preprocess]]",
            'use = "grayscale"               # no sampled image has colour',
        ]
        yield "channels = 1"
    yield "[[preprocess]]"
    yield 'use = "resize"'
    yield from _note(
        f"The images are {width}x{height} (median). More pixels show more and cost more."
    )
    yield f"size = {_size(facts)}"
    yield from ["", "[normalize]", 'use = "dataset"', "", "[[augment]]"]
    yield from _note("Safe for all images. Add flip if a mirror image has the same label.")
    yield 'use = "shift"'
    yield f"pixels = {max(1, _size(facts) // 16)}"


def _size(facts: DatasetFacts) -> int:
    """Return the largest usual size that the images have and that fits in memory."""
    planes = (1 if facts.grey else 3) * facts.samples
    return max(
        [size for size in _SIZES if size <= min(facts.size) and planes * size**2 <= _MEMORY],
        default=_SIZES[0],
    )


def _model(facts: DatasetFacts) -> Iterator[str]:
    yield "[model]"
    yield from _note(
        "A small network without pretrained weights. For photographs, a pretrained one is better: "
        'use = "resnet50" with weights = "imagenet" (98 MB, downloaded once), size 224 and colour, '
        "and without settings of this model such as widths. --set model.use=resnet50 drops those, "
        "and names them."
    )  # fmt: skip
    yield 'use = "simple-cnn"'
    blocks = min(5, (_size(facts) // 8).bit_length() - 1)  # the last one has 8 to 16 pixels
    yield f"widths = {[16 << block for block in range(blocks)]}"
    yield from ["", "[optimizer]", 'use = "adamw"', "lr = 1e-3", "", "[scheduler]"]
    yield 'use = "one-cycle"'


def _loss(facts: DatasetFacts) -> Iterator[str]:
    yield "[loss]"
    largest = facts.classes[facts.counts.index(max(facts.counts))]
    if facts.majority > _DOMINANT:
        yield from _note(
            f"{facts.majority:.0%} of the samples are {largest!r}: without class weights, "
            "always predicting that would be rewarded."
        )
        yield 'use = "inverse-frequency-cross-entropy"'
    else:
        yield 'use = "cross-entropy"'


def _training(facts: DatasetFacts) -> Iterator[str]:
    shares = 0.0 if facts.splits else sum(_shares(facts).values())
    training = int(facts.splits.get("train", facts.samples) * (1 - shares))
    batch = max(2, min(64, 1 << max(training // 100, 8).bit_length() - 1, training // 2))
    steps = -(-training // batch)
    epochs = next((n for n in (10, 20, 30, 50) if n * steps >= _STEPS), 100)
    yield "[training]"
    yield f"epochs = {epochs}"
    yield f"batch_size = {batch}"
    monitor = "qwk" if facts.ordered else "balanced-accuracy"
    if _validation_samples(facts) < _FEW:
        yield from _note(
            f"Chooses the best epoch. With fewer than {_FEW} validation images {monitor} has few "
            "values, so that epochs tie; the loss tells them apart."
        )
        monitor = "loss"
    elif facts.majority > _DOMINANT:
        yield from _note(f"Not accuracy: the largest class alone has {facts.majority:.0%}.")
    yield f'monitor = "validation/{monitor}"'


def _format_counts(names: Sequence[str], counts: Sequence[int]) -> str:
    """Return at most eight names with their counts."""
    shown = [f"{name} = {count:,}" for name, count in zip(names, counts, strict=True)]
    return ", ".join(shown[:8]) + (f", and {len(shown) - 8} more" if len(shown) > 8 else "")


def _note(text: str) -> list[str]:
    """Return a text as comment lines; a path is not broken at its hyphens."""
    lines = textwrap.wrap(as_comment(text), _WIDTH - 2, break_on_hyphens=False)
    return [f"# {line}" for line in lines]
