"""Seeds as functions: the seed of a random draw is computed from its purpose.

It is a hash of the experiment's seed and the purpose. A sum would give different purposes the same
seed: seed 1 in epoch 2, and seed 2 in epoch 1.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_ENCODER = json.JSONEncoder(default=int)  # json.dumps would create one for every seed


def seed_of(seed: int, *purpose: str | int) -> int:
    """Return the seed, 0 to 2**64 - 1, for a purpose such as ("order", epoch). Pure."""
    text = _ENCODER.encode([seed, *purpose])  # tells 1 from "1", and ("ab",) from ("a", "b")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator whose draws depend only on the seed and the purpose."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed_of(seed, *purpose)))
