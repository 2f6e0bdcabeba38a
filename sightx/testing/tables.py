"""What datasets, splits and samplers promise: everything that works on a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightx.plugin import Dataset, Sampler, Split
from sightx.testing.demands import Check, demand, demand_picklable
from sightx.testing.guard import sealed
from sightx.testing.worlds import table

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SIDES = ("train", "validation", "test", "")


def traits_need_no_data(dataset: Dataset) -> None:
    """Demand traits that come from the settings alone."""
    with sealed(type(dataset)) as opened:
        try:
            dataset.traits()
        except Exception:
            if not opened:
                raise
    demand(not opened, f"traits() {', '.join(opened)}; it must say what is known without data")


def rows_well_formed(dataset: Dataset) -> None:
    """Demand one row a sample: unique paths, labels in range, groups that are strings."""
    frame, classes = (found := dataset.table()).frame, found.classes
    missing = {"path", "label", "group"} - set(frame.columns)
    demand(not missing, f"the table has no column {', '.join(sorted(missing))}")
    demand(len(frame), "the table has no rows; give the example some images")
    demand(frame["path"].is_unique, "a path stands twice; the path is what names a sample")
    for column in ("path", "group"):
        strange = [cell for cell in frame[column] if not isinstance(cell, str)]
        demand(not strange, f"{column} holds {strange[:1]}; write strings, '' for no group")
    demand(
        isinstance(classes, tuple) and len(set(classes)) == len(classes) >= 2,
        f"classes are {classes!r}; give a tuple of at least two different names",
    )
    kind = frame["label"].dtype.kind
    demand(kind == "i", f"labels are of type {frame['label'].dtype}; give positions in classes")
    low, high = frame["label"].min(), frame["label"].max()
    last = len(classes) - 1
    demand(
        0 <= low <= high <= last, f"labels go from {low} to {high}, but classes from 0 to {last}"
    )


def traits_tell_the_truth(dataset: Dataset) -> None:
    """Demand that the table is what the traits announce."""
    said, found = dataset.traits(), dataset.table()
    if said.classes is not None:
        demand(
            said.classes == found.classes,
            f"traits() says the classes {said.classes}, the table {found.classes}",
        )
    demand(
        said.ordered == found.ordered,
        f"traits() says ordered = {said.ordered}, the table {found.ordered}",
    )
    grouped = bool((found.frame["group"] != "").any())
    demand(
        said.has_groups == grouped,
        f"traits() says has_groups = {said.has_groups}, the column group says {grouped}",
    )
    split = "split" in found.frame.columns
    demand(
        said.has_split == split,
        f"traits() says has_split = {said.has_split}, the table {'has' if split else 'lacks'} it",
    )
    strange = set(found.frame["split"]) - set(SIDES) if split else set()
    demand(not strange, f"the column split holds {sorted(map(str, strange))}")


def table_repeats(dataset: Dataset) -> None:
    """Demand the same rows in the same order each time."""
    one, two = dataset.table(), dataset.table()
    demand(
        one.frame.equals(two.frame) and one.classes == two.classes,
        "table() differs from call to call; sort what a folder lists, draw with a fixed seed",
    )


def images_can_be_read(dataset: Dataset) -> None:
    """Demand an image at both ends, the same twice, and a table that workers can be sent."""
    from sightx.plugin import as_torch_dataset

    found = dataset.table()
    for index in (0, len(found) - 1):
        as_torch_dataset(found)[index]  # refuses what the one decoder would refuse
        once = found.read(index)
        demand(_same(once, found.read(index)), f"read({index}) gives another image each time")
    demand_picklable(found, "let `read` be an object of a class at the top of a module")


def _same(one: Any, two: Any) -> bool:
    import numpy as np

    return one == two if isinstance(one, bytes) else np.array_equal(one, two)


def every_row_gets_a_side(split: Split) -> None:
    """Demand a legal side for each row, and some rows to train on."""
    rows = table()
    before = rows.frame.copy()
    sides = split.assign(rows)
    demand(len(sides) == len(rows), f"{len(sides)} sides for {len(rows)} rows; give one a row")
    strange = sorted({str(side) for side in sides} - set(SIDES))
    demand(not strange, f"{strange} is no side; known are train, validation, test and ''")
    demand((sides == "train").any(), "no row is on train")
    demand(rows.frame.equals(before), "assign() changes the table; work on a copy")


def split_repeats(split: Split) -> None:
    """Demand the same sides each time."""
    demand(
        list(split.assign(table())) == list(split.assign(table())),
        "assign() differs from call to call; draw from generator(self.seed, ...)",
    )


def order_of_rows_is_free(split: Split) -> None:
    """Demand that a sample's side does not depend on where it stands."""
    import numpy as np

    rows = table()
    sides = dict(zip(rows.frame["path"], split.assign(rows), strict=True))
    turned = rows.take(np.arange(len(rows))[::-1].copy())
    found = dict(zip(turned.frame["path"], split.assign(turned), strict=True))
    demand(
        found == sides,
        "in another order of the rows, samples change sides; decide by path or group, not position",
    )


def positions_are_valid(sampler: Sampler) -> None:
    """Demand positions in the labels, as many in every epoch."""
    labels = _labels()
    orders = [sampler.order(labels, epoch=epoch, seed=0) for epoch in range(3)]
    for order in orders:
        integers = getattr(getattr(order, "dtype", None), "kind", "") in "iu"
        demand(integers and order.ndim == 1, "order() must return an array of integers, (M,)")
        demand(
            len(order) and order.min() >= 0 and order.max() < len(labels),
            f"positions must lie in 0..{len(labels) - 1}, and there must be some",
        )
    lengths = [len(order) for order in orders]
    demand(len(set(lengths)) == 1, f"epochs have {lengths} samples; give each as many")


def order_is_pure(sampler: Sampler) -> None:
    """Demand that the same arguments give the same order."""
    forward = [_order(sampler, epoch, 0) for epoch in range(3)]
    backward = [_order(sampler, epoch, 0) for epoch in (2, 1, 0)]
    demand(
        forward == backward[::-1],
        "order() depends on what was asked before; draw from generator(seed, ..., epoch)",
    )


def seed_and_epoch_matter(sampler: Sampler) -> None:
    """Demand another order in each epoch and for each seed, or one and the same for all."""
    epochs = len({tuple(_order(sampler, epoch, 0)) for epoch in range(3)}) > 1
    seeds = len({tuple(_order(sampler, 0, seed)) for seed in range(3)}) > 1
    ignored = "seed" if epochs else "epoch"
    demand(
        epochs == seeds,
        f"the order does not depend on {ignored}; draw from generator(seed, ..., epoch)",
    )


def _labels() -> Array:
    import numpy as np

    labels = np.repeat([0, 1, 2], [20, 9, 4])[np.random.default_rng(0).permutation(33)]
    labels.flags.writeable = False
    return labels


def _order(sampler: Sampler, epoch: int, seed: int) -> list[int]:
    return [int(each) for each in sampler.order(_labels(), epoch=epoch, seed=seed)]


DATASET: tuple[Check, ...] = (
    traits_need_no_data, rows_well_formed, traits_tell_the_truth, table_repeats, images_can_be_read,
)  # fmt: skip
SPLIT: tuple[Check, ...] = (every_row_gets_a_side, split_repeats, order_of_rows_is_free)
SAMPLER: tuple[Check, ...] = (positions_are_valid, order_is_pure, seed_and_epoch_matter)
