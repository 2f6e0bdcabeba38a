"""A table of predictions: everything that evaluation knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.io.csv_cells import csv_bytes

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
_ARRAYS = ("labels", "outputs", "probabilities", "decisions")


@dataclass(frozen=True)
class Predictions:
    """Predictions for N samples, in the order of the table.

    `outputs` (N, K) are the network's; `probabilities` (N, C) are computed from them by the loss;
    `decisions` (N,) and `labels` (N,) are positions in `classes`. A label of -1 is unknown.
    `columns` has the texts (N,) of each extra column of the dataset, such as the camera.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Array
    outputs: Array
    probabilities: Array
    decisions: Array
    classes: tuple[str, ...]
    ordered: bool = False
    columns: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.keys)

    @cached_property
    def group_positions(self) -> Array:
        """Return the position of each sample's group, int (N,); a sample without one is alone."""
        names = [
            (group, "") if group else ("", key)
            for group, key in zip(self.groups, self.keys, strict=True)
        ]
        positions = {name: position for position, name in enumerate(dict.fromkeys(names))}
        return np.array([positions[name] for name in names], dtype=np.int64)

    def take(self, rows: Array) -> Predictions:
        """Return the predictions of some samples, in the order of `rows`, which may repeat."""
        rows = np.asarray(rows)
        positions = rows.tolist()  # Python's integers index tuples faster than numpy's
        return replace(
            self,
            keys=tuple(self.keys[row] for row in positions),
            groups=tuple(self.groups[row] for row in positions),
            labels=self.labels[rows],
            outputs=self.outputs[rows],
            probabilities=self.probabilities[rows],
            decisions=self.decisions[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
        )

    def with_decisions(self, decisions: Array) -> Predictions:
        """Return the same predictions with other decisions."""
        return replace(self, decisions=decisions.astype(np.int64))

    def with_probabilities(self, probabilities: Array) -> Predictions:
        """Return the same predictions with other probabilities and the same decisions."""
        return replace(self, probabilities=probabilities)

    def read_only(self) -> Predictions:
        """Return the same predictions with read-only views of the arrays."""
        arrays = {name: getattr(self, name).view() for name in _ARRAYS}
        for array in arrays.values():
            array.flags.writeable = False
        return replace(self, **arrays)

    def confusion(self) -> Array:
        """Return the confusion matrix, int (C, C): rows are true classes, columns decisions.

        Samples with an unknown label are left out.
        """
        size, known = len(self.classes), self.labels >= 0
        cells = self.labels[known] * size + self.decisions[known]
        return np.bincount(cells, minlength=size * size).reshape(size, size)

    def frame(self) -> pd.DataFrame:
        """Return path, group, label and prediction (classes by name), and the extra columns."""
        import pandas as pd

        names = np.array([*self.classes, ""], dtype=object)  # the last one stands for -1
        return pd.DataFrame(
            {
                "path": self.keys,
                "group": self.groups,
                "label": names[self.labels],
                "prediction": names[self.decisions],
                **self.columns,
            }
        )

    def save(self, stem: Path) -> None:
        """Write `stem.csv`, and `.npy` files of outputs and probabilities next to it."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".csv").write_bytes(csv_bytes(self.frame()))
        np.save(stem.with_suffix(".outputs.npy"), self.outputs)
        np.save(stem.with_suffix(".probabilities.npy"), self.probabilities)
