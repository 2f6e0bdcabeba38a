"""Checks of samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightx.plugin import Sampler, call_declared
from sightx.testing.assertions import ContractCheck, require, require_pure
from sightx.testing.fixtures import columns

if TYPE_CHECKING:
    import numpy as np

_EPOCHS = 3


def positions_are_valid(sampler: Sampler) -> None:
    """Require positions in the labels, the same number in every epoch."""
    labels = _labels()
    orders = [_call(sampler, labels, epoch, 0) for epoch in range(_EPOCHS)]
    for order in orders:
        is_integer = getattr(getattr(order, "dtype", None), "kind", "") in "iu"
        require(is_integer and order.ndim == 1, "order() must return an array of integers, (M,)")
        require(
            len(order) and order.min() >= 0 and order.max() < len(labels),
            f"positions must be in 0..{len(labels) - 1}, and there must be at least one",
        )
    lengths = [len(order) for order in orders]
    require(len(set(lengths)) == 1, f"epochs have {lengths} samples; the number must be constant")


def order_is_pure(sampler: Sampler) -> None:
    """Require the same order for the same arguments."""
    require_pure(
        lambda epoch: _order(sampler, epoch, 0),
        range(_EPOCHS),
        "order() depends on earlier calls; draw from generator(seed, ..., epoch)",
        type(sampler),
    )


def seed_and_epoch_are_used(sampler: Sampler) -> None:
    """Require an order that depends on both the epoch and the seed, or on neither."""
    uses_epoch = len({tuple(_order(sampler, epoch, 0)) for epoch in range(3)}) > 1
    uses_seed = len({tuple(_order(sampler, 0, seed)) for seed in range(3)}) > 1
    ignored = "seed" if uses_epoch else "epoch"
    require(
        uses_epoch == uses_seed,
        f"the order does not depend on {ignored}; draw from generator(seed, ..., epoch)",
    )


def _labels() -> np.ndarray[Any, Any]:
    import numpy as np

    labels = np.repeat([0, 1, 2], [20, 9, 4])[np.random.default_rng(0).permutation(33)]
    labels.flags.writeable = False
    return labels


def _order(sampler: Sampler, epoch: int, seed: int) -> list[int]:
    return [int(position) for position in _call(sampler, _labels(), epoch, seed)]


def _call(sampler: Sampler, labels: np.ndarray[Any, Any], epoch: int, seed: int) -> Any:
    """Return the order of samples of eleven groups and two sites."""
    import numpy as np

    rows = np.arange(len(labels))
    groups = np.array([f"group{row % 11}" for row in rows], dtype=object)
    offered = {"epoch": epoch, "epochs": _EPOCHS, "seed": seed, "groups": groups}
    return call_declared(sampler.order, labels, columns=columns(sampler, len(labels)), **offered)


CHECKS: tuple[ContractCheck, ...] = (positions_are_valid, order_is_pure, seed_and_epoch_are_used)
