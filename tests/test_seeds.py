from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.plugin import generator, seed_of

purposes = st.lists(st.one_of(st.integers(-5, 5), st.sampled_from(["a", "b", "1", ",", '"'])))


def test_a_seed_is_the_hash_of_its_purpose() -> None:
    digest = hashlib.blake2b(b'[3, "order", 7]', digest_size=8).digest()
    assert seed_of(3, "order", 7) == int.from_bytes(digest, "little")
    assert seed_of(3, "order", int(np.int64(7))) == seed_of(3, "order", np.int64(7))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(purposes, purposes)
def test_two_purposes_never_share_a_seed(one: list[int | str], other: list[int | str]) -> None:
    assert (seed_of(0, *one) == seed_of(0, *other)) == (one == other)


def test_neighbouring_seeds_and_epochs_have_different_seeds() -> None:
    seeds = [seed_of(seed, epoch) for seed, epoch in itertools.product(range(50), repeat=2)]
    assert len(set(seeds)) == 2500
    assert 0 <= min(seeds) < 2**60 < 2**63 < max(seeds) < 2**64
    # Each of the 64 bits is set half of the time: five deviations of 2,500 coins are 0.05.
    bits = np.unpackbits(np.array(seeds, dtype=np.uint64).view(np.uint8)).reshape(-1, 64)
    assert np.all(np.abs(bits.mean(axis=0) - 0.5) < 0.05)


def test_a_generator_is_a_function_of_seed_and_purpose() -> None:
    draws = np.random.Generator(np.random.PCG64(seed_of(1, "flip", 2))).random(5)
    assert np.array_equal(generator(1, "flip", 2).random(5), draws)
    assert not np.array_equal(generator(1, "flip", 3).random(5), draws)


def test_seeds_are_the_same_in_another_process() -> None:
    code = "import sightx.plugin; print(sightx.plugin.seed_of(1, 'a', 2))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == seed_of(1, "a", 2)
