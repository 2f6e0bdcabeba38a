"""Plain records that every room uses. They need numpy, pandas and `io` only."""

from __future__ import annotations

import re

SPLITS = ("train", "validation", "test")
OWN_COLUMNS = ("path", "label", "group", "split", "line", "file", "sha256", "prediction")
"""Columns of tables and of the files of a run; extra columns have other names."""

_SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "validate", "val", "valid", "dev", "development", "eval",
                   "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}  # fmt: skip
_SPLIT_OF = {name: split for split, names in _SPLIT_NAMES.items() for name in names}
_WORDS = "set|split|data|dataset|images|imgs|samples|seg"
_ADDITIONS = re.compile(rf"^(?:(?:{_WORDS})[\s_-]+)+|(?:[\s_-]*(?:{_WORDS}))+$")


def split_called(name: str) -> str:
    """Return the split that a folder, a file or a cell with this name means; "" for none.

    Upper and lower case count as equal, and words such as `set`, `data`, `split` or `images` may
    stand before or after, as in `Training_Set` or `seg_train`. `dev` and `eval` mean validation,
    as in most of the field.
    """
    key = name.strip().casefold()
    return _SPLIT_OF.get(key) or _SPLIT_OF.get(_ADDITIONS.sub("", key), "")


CLOCK_KEYS = frozenset({"seconds", "images_per_second", "data_wait"})
"""Keys of metrics.jsonl and of checkpoints that depend on the clock."""
