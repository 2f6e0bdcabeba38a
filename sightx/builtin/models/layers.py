"""Fully connected layers that go by names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def hidden_layers(
    inputs: int, widths: Sequence[int], dropout: float = 0.0
) -> OrderedDict[str, nn.Module]:
    """Return a linear layer and a ReLU for each width, numbered from 1.

    A dropout follows each; where there is no width it stands alone.
    """
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (wide, width) in enumerate(pairwise([inputs, *widths]), start=1):
        layers[f"hidden{number}"] = nn.Linear(wide, width)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
    if dropout and not widths:
        layers["dropout"] = nn.Dropout(dropout)
    return layers
