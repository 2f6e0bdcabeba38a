"""Seeds as functions: every draw has a seed of its own, made from what it is for.

A seed is a hash of the experiment's seed and a purpose, never a sum: sums meet (seed 1, epoch 2
and seed 2, epoch 1), hashes do not.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_TEXT = json.JSONEncoder(default=int)  # json.dumps would make one for every seed


def seed_of(seed: int, *purpose: str | int) -> int:
    """Return the seed, 0 to 2**64 - 1, for a purpose such as ("order", epoch)."""
    text = _TEXT.encode([seed, *purpose])  # 1 and "1", ("ab",) and ("a", "b") differ
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a generator whose draws depend on the seed and the purpose alone."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed_of(seed, *purpose)))
