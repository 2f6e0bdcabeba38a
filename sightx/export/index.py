"""The index of what SightX has written: a CSV file of samples, and a description beside it."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt, ValidationError

from sightx.errors import DataError, Problem
from sightx.io import toml
from sightx.records import SPLITS
from sightx.records.table import ImageTable
from sightx.registry.components import Settings, Traits

INDEX = "index.csv"
_SAMPLE = ("path", "label", "group")
_DIGEST = "sha256"
_KINDS = {"label": "category", "shard": "category", "offset": np.int64, "size": np.int64}


class Description(Settings):
    """Say what lies in a folder; written last, so that it is there only when all is."""

    format: Literal[1] = 1
    classes: tuple[str, ...]
    ordered: bool
    samples: NonNegativeInt


Described = TypeVar("Described", bound=Description)


def read_description(cls: type[Described], content: bytes, file: str) -> Described:
    """Return a description from its JSON. Raises DataError."""
    try:
        return cls.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise_damaged(file, f"is no description: {where} {first['msg']}")


def write_index(path: Path, table: ImageTable, columns: pd.DataFrame) -> None:
    """Write a row for each sample; `columns` say the rest, `sha256` among them."""
    labels = np.array(table.classes, dtype=object)[table.labels]
    sample = [*_SAMPLE, *(["split"] if "split" in table.frame else [])]
    rows = table.frame.assign(label=labels)[sample].reset_index(drop=True)
    pd.concat([rows, columns], axis=1).to_csv(path, index=False)


def read_index(
    content: bytes, described: Description, columns: Sequence[str], file: str
) -> pd.DataFrame:
    """Return the cells of an index: labels as numbers, whole numbers, and the line of each row.

    `columns` are needed beside the sample's own. Raises DataError, naming the line.
    """
    kinds: dict[str, Any] = defaultdict(lambda: str, _KINDS)
    try:
        cells = pd.read_csv(io.BytesIO(content), dtype=kinds, keep_default_na=False)
    except (ValueError, OverflowError) as error:  # what the parser raises are ValueErrors
        raise_damaged(file, f"is no index: {str(error).splitlines()[0]}")
    missing = [name for name in (*_SAMPLE, *columns, _DIGEST) if name not in cells]
    if missing:
        raise_damaged(file, f"has no column {', '.join(missing)}")
    if len(cells) != described.samples:
        raise_damaged(file, f"has {len(cells)} rows, {described.samples} were written")
    cells["line"] = np.arange(len(cells)) + 2
    cells["label"] = positions(cells["label"], described.classes)
    refuse_rows(cells, cells["label"] < 0, file, "has a label that is no class")
    refuse_rows(cells, ~cells[_DIGEST].str.fullmatch("[0-9a-f]{64}"), file, "has no whole hash")
    refuse_rows(cells, cells["path"].duplicated(), file, "stands twice")
    if "split" in cells:
        refuse_rows(cells, ~cells["split"].isin([*SPLITS, ""]), file, "is on no side that there is")
    return cells


def positions(names: pd.Series[Any], known: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return where each cell of a column of categories stands in `known`, int64; -1 where not."""
    found = pd.Index(known).get_indexer(names.cat.categories)
    return np.append(found, -1).astype(np.int64)[names.cat.codes]  # the last for no cell at all


def index_frame(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what a table's frame has of an index."""
    sample = [name for name in (*_SAMPLE, "split", "line") if name in cells]
    return cells[sample].assign(sha256=cells[_DIGEST])


def check_traits(table: ImageTable, said: Traits) -> ImageTable:
    """Return a table of which a spec says the truth. Raises DataError where it does not."""
    facts = {
        "classes": (list(said.classes or table.classes), list(table.classes)),
        "ordered": (said.ordered, table.ordered),
        "groups": (said.has_groups, bool((table.frame["group"] != "").any())),
        "split": (said.has_split, "split" in table.frame),
        "shape": (said.shape, table.shape),
    }
    for key, (word, fact) in facts.items():
        if word != fact:
            value = list(fact) if isinstance(fact, tuple) else fact
            message, hint = "is not what was written", f"{key} = {toml.dump_value(value)}"
            raise DataError(Problem("other-traits", message, hint, f"dataset.{key}", table.source))
    return table


def refuse_rows(cells: pd.DataFrame, wrong: pd.Series[bool], file: str, what: str) -> None:
    """Raise DataError, naming the first row of an index that is wrong."""
    if wrong.any():
        row = cells[wrong.to_numpy()].iloc[0]
        hint = "mend the row, or write again"
        problem = Problem("not-as-written", f"{row['path']!r} {what}", hint)
        raise DataError(problem.at(file, int(row["line"])))


def raise_damaged(file: str, reason: str) -> NoReturn:
    """Raise DataError for a file that is not as it was written."""
    raise DataError(Problem("not-as-written", reason, "write the folder again", file=file))
