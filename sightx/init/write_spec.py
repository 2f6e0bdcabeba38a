"""Write a first spec for data that somebody has looked at: it runs, and its comments say why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightx.io.toml import dump_value
from sightx.spec.render import as_comment

_SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
_MEMORY = 4e9  # bytes that all prepared images may need
_DOMINANT = 0.6  # from this share on, always saying the largest class looks like success
_STEPS = 3000  # what a small network needs to settle
_WIDTH = 100


@dataclass(frozen=True)
class DatasetFacts:
    """Hold what a look at some data has told.

    `dataset` is the spec's table, `reasons` what to say beside its keys; `counts` are of the
    training side where the data bring `sides`, else of all. `rarest` counts what can be dealt to
    different sides, samples or groups, of the class with fewest. `size` is the median (height,
    width); `remarks` are for the head.
    """

    name: str
    source: str
    dataset: Mapping[str, Any]
    reasons: Mapping[str, str]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    ordered: bool
    samples: int
    sides: Mapping[str, int]
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
        _head(facts), _dataset(facts), _split(facts), _prepare(facts), _model(facts),
        _loss(facts), _training(facts),
    ]  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(facts: DatasetFacts) -> Iterator[str]:
    count, classes = f"{facts.samples:,} images", f"{len(facts.classes)} classes"
    yield from _note(f"{count} of {classes} in {facts.source}, as `sightx init` found them.")
    for remark in facts.remarks:
        yield from _note(remark)
    yield from _note("What is left out has a default: `sightx show` prints the whole experiment.")
    yield f"name = {dump_value(facts.name)}"


def _dataset(facts: DatasetFacts) -> Iterator[str]:
    yield "[dataset]"
    where = "train: " if facts.sides else ""
    yield from _note(where + _listed(facts.classes, facts.counts))
    for key, value in facts.dataset.items():
        yield from _note(facts.reasons.get(key, ""))
        yield f"{key} = {dump_value(value)}"


def _split(facts: DatasetFacts) -> Iterator[str]:
    yield "[split]"
    if facts.sides:
        sides = _listed(list(facts.sides), list(facts.sides.values()))
        yield from _note(f"The data bring their own sides: {sides}.")
        yield 'use = "given"'
        if "validation" not in facts.sides:
            yield "validation = 0.1                # of the training side, since there is none"
        return
    if facts.groups:
        yield from _note(f"{facts.groups:,} groups: none is on two sides.")
    yield f'use = "{"grouped" if facts.groups else "stratified"}"'
    yield from (f"{side} = {share}" for side, share in _shares(facts).items())
    if facts.rarest < 3:
        yield from _note("A class has too few samples to be on three sides: test is left out.")


def _shares(facts: DatasetFacts) -> dict[str, float]:
    share = 0.1 if facts.samples >= 1000 else 0.2  # a smaller side would measure nothing
    return {"validation": share, "test": share if facts.rarest >= 3 else 0.0}


def _prepare(facts: DatasetFacts) -> Iterator[str]:
    height, width = facts.size
    if facts.grey:
        yield from [
            "[[preprocess]]",
            'use = "grayscale"               # no sampled image has colour',
        ]
        yield "channels = 1"
    yield "[[preprocess]]"
    yield 'use = "resize"'
    yield from _note(f"The images are {width}x{height} (median). More pixels show more, and cost.")
    yield f"size = {_size(facts)}"
    yield from ["", "[normalize]", 'use = "dataset"', "", "[[augment]]"]
    yield from _note("Safe whatever the images show. If a mirror image means the same, add flip.")
    yield 'use = "shift"'
    yield f"pixels = {max(1, _size(facts) // 16)}"


def _size(facts: DatasetFacts) -> int:
    """Return the largest usual size that the images have and the memory holds."""
    planes = (1 if facts.grey else 3) * facts.samples
    return max(
        [side for side in _SIDES if side <= min(facts.size) and planes * side**2 <= _MEMORY],
        default=_SIDES[0],
    )


def _model(facts: DatasetFacts) -> Iterator[str]:
    yield "[model]"
    yield from _note(
        'Small, and from scratch. For photographs, a network that has learned before sees more: '
        'use = "resnet50" with weights = "imagenet", a size of 224 and colour.'
    )  # fmt: skip
    yield 'use = "simple-cnn"'
    blocks = min(5, (_size(facts) // 8).bit_length() - 1)  # the last one sees 8 to 16 pixels a side
    yield f"widths = {[16 << block for block in range(blocks)]}"
    yield from ["", "[optimizer]", 'use = "adamw"', "lr = 1e-3", "", "[scheduler]"]
    yield 'use = "one-cycle"'


def _loss(facts: DatasetFacts) -> Iterator[str]:
    yield "[loss]"
    largest = facts.classes[facts.counts.index(max(facts.counts))]
    if facts.majority > _DOMINANT:
        yield from _note(
            f"{facts.majority:.0%} of the samples are {largest!r}: without weights, always "
            "answering so would be rewarded."
        )
        yield 'use = "inverse-frequency-cross-entropy"'
    else:
        yield 'use = "cross-entropy"'


def _training(facts: DatasetFacts) -> Iterator[str]:
    shares = 0.0 if facts.sides else sum(_shares(facts).values())
    training = int(facts.sides.get("train", facts.samples) * (1 - shares))
    batch = max(2, min(64, 1 << max(training // 100, 8).bit_length() - 1, training // 2))
    steps = -(-training // batch)
    epochs = next((n for n in (10, 20, 30, 50) if n * steps >= _STEPS), 100)
    yield "[training]"
    yield f"epochs = {epochs}"
    yield f"batch_size = {batch}"
    if facts.majority > _DOMINANT:
        yield from _note(f"Not accuracy: the largest class alone has {facts.majority:.0%}.")
    monitor = "qwk" if facts.ordered else "balanced-accuracy"
    yield f'monitor = "validation/{monitor}"'


def _listed(names: Sequence[str], counts: Sequence[int]) -> str:
    """Return names with their counts, the first eight of many."""
    shown = [f"{name} = {count:,}" for name, count in zip(names, counts, strict=True)]
    return ", ".join(shown[:8]) + (f", and {len(shown) - 8} more" if len(shown) > 8 else "")


def _note(text: str) -> list[str]:
    """Return a text as lines of comment."""
    return [f"# {line}" for line in textwrap.wrap(as_comment(text), _WIDTH - 2)]
