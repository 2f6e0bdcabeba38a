"""How far an image may be reduced while it is decoded, unseen by what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from sightx.registry.components import call_declared
from sightx.registry.kinds import Preprocess

MARGIN = 1.75
"""How many times what a chain needs an image keeps on each side.

Reducing is a coarser filter than the resize that follows; the margin leaves that resize most of
the work. With less, fine detail folds back into the result.
"""


def min_decoded_size(
    chain: Sequence[Preprocess], decode: Literal["scaled", "exact"]
) -> tuple[int, int] | None:
    """Return the (height, width) that a decoded image must keep; None: all that it has.

    The chain is asked from its end: what each component needs for what the next one needs.
    """
    need: tuple[int, int] | None = None
    for prepare in reversed(chain):
        need = call_declared(prepare.required_input_size, size=need)
    if need is None or decode == "exact":
        return None
    height, width = need
    return math.ceil(MARGIN * height), math.ceil(MARGIN * width)
