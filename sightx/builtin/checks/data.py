"""Rules that need the table, or the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sightx.plugin import Check, Finding

if TYPE_CHECKING:
    import torch

    from sightx.plugin import Experiment, ImageTable

_BF16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")  # torch's names; the last is ARM's


def large_batch(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find a batch that the training side cannot fill."""
    size, samples = experiment.training.batch_size, int((table.frame["split"] == "train").sum())
    if size > samples:
        message = f"a batch of {size} is larger than the training side ({samples} samples)"
        yield Finding("training.batch_size", message, f"at most {samples}")


def group_leak(table: ImageTable) -> Iterator[Finding]:
    """Find groups, such as patients, that are on two sides."""
    frame = table.frame[(table.frame["group"] != "") & (table.frame["split"] != "")]
    sides = frame.groupby("group")["split"].agg(lambda split: " and ".join(sorted(set(split))))
    leaking = sides[sides.str.contains(" and ")]
    if len(leaking):
        first = f"first: {leaking.index[0]!r} in {leaking.iloc[0]}"
        message = f"{len(leaking)} of {len(sides)} groups are on two sides; {first}"
        yield Finding("split.use", message, 'split.use = "grouped"')


def empty_class(experiment: Experiment, table: ImageTable) -> Iterator[Finding]:
    """Find classes that nothing can be learned about."""
    rows = (table.frame["split"] == "train").to_numpy().nonzero()[0]
    empty = [n for n, count in zip(table.classes, table.counts(rows), strict=True) if not count]
    if empty:
        message = f"no training sample of {', '.join(map(repr, empty))}"
        yield Finding("dataset", message, "add some, or leave the class out")


def bf16_missing(experiment: Experiment, device: torch.device) -> Iterator[Finding]:
    """Find bf16 where the device does not have it."""
    if experiment.training.precision != "bf16" or device.type != "cuda":
        return  # see slow_bf16 for the processor; mps computes it from macOS 14 on
    from torch import cuda

    if not cuda.is_bf16_supported(including_emulation=False):
        message = f"{cuda.get_device_name(device)} has no bf16"
        yield Finding("training.precision", message, 'training.precision = "fp32"')


def slow_bf16(experiment: Experiment, device: torch.device) -> Iterator[Finding]:
    """Find bf16 on a processor that has no instructions for it."""
    if experiment.training.precision != "bf16" or device.type != "cpu":
        return
    from torch import cpu

    if not any(cpu.get_capabilities().get(name) for name in _BF16):
        message = "this processor has no bf16 instructions: it is slower than fp32"
        yield Finding("training.precision", message, 'training.precision = "fp32"')


CHECKS = [
    Check("large-batch", "no batch would be whole", large_batch, "data", "warning"),
    Check("group-leak", "the test would know its patients", group_leak, "data"),
    Check("empty-class", "nothing can be learned about it", empty_class, "data", "warning"),
    Check("bf16-missing", "the device would emulate it slowly or fail", bf16_missing, "device"),
    Check("slow-bf16", "the processor emulates it", slow_bf16, "device", "warning"),
]
