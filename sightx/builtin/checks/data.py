"""Checks that need the table of samples, or the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sightx.plugin import Check, Finding

if TYPE_CHECKING:
    import torch

    from sightx.plugin import Experiment, ImageTable

# torch's names of processor features that compute in bf16; the last one is of ARM processors.
_BF16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")


def large_batch(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find a batch that is larger than the train split."""
    size, samples = experiment.training.batch_size, int((table.frame["split"] == "train").sum())
    if size > samples:
        message = f"a batch of {size} is larger than the train split ({samples} samples)"
        yield Finding("training.batch_size", message, f"choose at most {samples}")


def group_leak(table: ImageTable) -> Iterator[Finding]:
    """Find groups, such as patients, with samples in several splits."""
    frame = table.frame[(table.frame["group"] != "") & (table.frame["split"] != "")]
    splits = frame.groupby("group")["split"].agg(lambda split: " and ".join(sorted(set(split))))
    leaking = splits[splits.str.contains(" and ")]
    if len(leaking):
        first = f"first: {leaking.index[0]!r} in {leaking.iloc[0]}"
        message = f"{len(leaking)} of {len(splits)} groups are in several splits; {first}"
        yield Finding("split.use", message, 'split.use = "grouped"')


def empty_class(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find classes without training samples."""
    rows = (table.frame["split"] == "train").to_numpy().nonzero()[0]
    counts = zip(table.classes, table.counts(rows), strict=True)
    empty = [name for name, count in counts if not count]
    if empty:
        message = f"there are no training samples of {', '.join(map(repr, empty))}"
        yield Finding("dataset", message, "add some, or leave the class out")


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
    Check("bf16-missing", "the device would emulate bf16 slowly, or fail", bf16_missing, "device"),
    Check("slow-bf16", "the processor emulates bf16", slow_bf16, "device", "warning"),
]
