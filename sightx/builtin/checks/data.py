"""Checks that need the table of samples, or the device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sightx.plugin import Check, Finding, call_declared

if TYPE_CHECKING:
    import torch

    from sightx.plugin import Experiment, ImageTable

# torch's names of processor features that compute in bf16; the last one is of ARM processors.
_BF16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")
# A side of the body as a word of a name; `os` and `od` are the left and the right eye.
_SIDE = re.compile(r"(?<![^\W_])(left|right|l|r|os|od)(?![^\W_])", re.IGNORECASE)
_MIN_PAIRS = 5


def large_batch(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find a batch that is larger than the train split."""
    size, samples = experiment.training.batch_size, int((table.frame["split"] == "train").sum())
    if size > samples:
        message = f"a batch of {size} is larger than the train split ({samples} samples)"
        yield Finding("training.batch_size", message, f"choose at most {samples}")


def group_leak(table: ImageTable) -> Iterator[Finding]:
    """Find groups, such as patients, with samples in several splits."""
    frame = table.frame[(table.frame["group"] != "") & (table.frame["split"] != "")]
    counts = frame.groupby("group")["split"].nunique()
    leaking = counts.index[counts > 1]
    if len(leaking):
        splits = sorted(set(frame.loc[frame["group"] == leaking[0], "split"]))
        first = f"first: {leaking[0]!r} in {' and '.join(splits)}"
        message = f"{len(leaking)} of {len(counts)} groups are in several splits; {first}"
        rows = table.frame["group"].isin(leaking).to_numpy().nonzero()[0]
        yield Finding("split.use", message, 'split.use = "grouped"', rows.tolist())


def undeclared_groups(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find names that differ in their side only, such as `10_left` and `10_right`, but no group."""
    if (table.frame["group"] != "").any():
        return
    sides: dict[str, dict[str, int]] = {}  # the row of each side, by the rest of the name
    for row, path in enumerate(map(str, table.frame["path"])):
        name = path.rpartition("/")[2]
        name = name.rpartition(".")[0] or name
        if match := _SIDE.search(name):
            rest = name[: match.start()] + "\0" + name[match.end() :]
            sides.setdefault(rest.lower(), {})[match[1].lower()] = row
    pairs = [rows for rest in sides.values() if len(rows := list(rest.values())) > 1]
    if len(pairs) < min(_MIN_PAIRS, max(len(table) / 100, 1)):
        return
    one, other = (str(table.frame["path"].iat[row]) for row in pairs[0][:2])
    message = f"no group is declared, but {len(pairs)} names are pairs, such as {one} and {other}"
    hint = "name the column of the patient in dataset.group"
    if not hasattr(experiment.dataset, "group"):
        hint = "list the images in a CSV file with a column of the patient, and use csv"
    rows = [row for pair in pairs for row in pair]
    yield Finding("dataset", message, f"{hint}; both belong in one split", rows)


def empty_class(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find classes without training samples."""
    rows = (table.frame["split"] == "train").to_numpy().nonzero()[0]
    counts = zip(table.classes, table.counts(rows), strict=True)
    empty = [name for name, count in counts if not count]
    if empty:
        message = f"there are no training samples of {', '.join(map(repr, empty))}"
        yield Finding("dataset", message, "add some, or leave the class out")


def sample_weights(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find samples whose weight, by a column, is not a finite number from 0."""
    import torch

    splits, loss = table.frame["split"].to_numpy(), experiment.loss
    column = getattr(loss, "column", None)
    if column not in table.columns:
        return
    rows = (splits != "").nonzero()[0]
    weights = call_declared(
        loss.weights,
        torch.from_numpy(table.labels[rows]),
        class_counts=table.counts((splits == "train").nonzero()[0]),
        columns=table.extra_columns(rows),
        progress=1.0,
    )
    if not isinstance(weights, torch.Tensor) or weights.shape != rows.shape:
        return  # a step refuses weights of another shape
    bad = rows[(~weights.isfinite() | (weights < 0)).numpy()]
    if len(bad):
        first, cell = table.frame["path"].iat[bad[0]], table.extra_columns(bad[:1])[column][0]
        message = f"the weights of {len(bad)} samples are not numbers from 0"
        example = f"first {first}, whose {column} is {cell!r}"
        hint = "fix the column, or name the samples in dataset.exclude"
        yield Finding("loss", f"{message}; {example}", hint, bad.tolist())


def doubtful_data(table: ImageTable) -> Iterator[Finding]:
    """Find what the dataset is not sure of."""
    for message, hint in table.survey.doubts:
        yield Finding("dataset", message, hint)


def bf16_missing(experiment: Experiment, device: torch.device) -> Iterator[Finding]:
    """Find bf16 on a CUDA device without it."""
    if experiment.training.precision != "bf16" or device.type != "cuda":
        return  # slow_bf16 checks processors; mps computes bf16 from macOS 14 on
    from torch import cuda

    if not cuda.is_bf16_supported(including_emulation=False):
        message = f"{cuda.get_device_name(device)} has no bf16"
        yield Finding("training.precision", message, 'training.precision = "fp32"')


def slow_bf16(experiment: Experiment, device: torch.device) -> Iterator[Finding]:
    """Find bf16 on a processor without instructions for it."""
    if experiment.training.precision != "bf16" or device.type != "cpu":
        return
    from torch import cpu

    if not any(cpu.get_capabilities().get(name) for name in _BF16_FEATURES):
        message = "this processor has no bf16 instructions: bf16 is slower than fp32"
        yield Finding("training.precision", message, 'training.precision = "fp32"')


CHECKS = [
    Check("large-batch", "not even one batch is complete", large_batch, "data", "warning"),
    Check(
        "group-leak",
        "images of one group, such as a patient, are in several splits, so test results are too "
        "good",
        group_leak,
        "data",
    ),
    Check(
        "undeclared-groups",
        "without groups, images of one patient may be in the train and in the test split",
        undeclared_groups,
        "data",
        "warning",
    ),
    Check(
        "empty-class",
        "a class without training samples cannot be learned",
        empty_class,
        "data",
        "warning",
    ),
    Check(
        "doubtful-data",
        "the folders or files of the data suggest another meaning than the one that they get",
        doubtful_data,
        "data",
        "warning",
    ),
    Check(
        "sample-weights",
        "the step divides by the sum of the weights of a batch",
        sample_weights,
        "data",
    ),
    Check("bf16-missing", "the device would emulate bf16 slowly, or fail", bf16_missing, "device"),
    Check("slow-bf16", "the processor emulates bf16", slow_bf16, "device", "warning"),
]
