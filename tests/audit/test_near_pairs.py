from __future__ import annotations

import numpy as np
import pytest

from sightx.audit.near_pairs import hamming, near_pairs


def random_hashes(count, words, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (count, words), dtype=np.uint64)


def plant(hashes, seed=1):
    """Let a fifth of the hashes be copies with up to nine changed bits."""
    rng = np.random.default_rng(seed)
    hashes = hashes.copy()
    for row in rng.choice(len(hashes), len(hashes) // 5, replace=False):
        hashes[row] = hashes[rng.integers(len(hashes))]
        for bit in rng.integers(0, 64 * hashes.shape[1], rng.integers(0, 10)):
            hashes[row, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return hashes


def brute_force(hashes, limit, others=None):
    right = hashes if others is None else others
    distances = np.bitwise_count(hashes[:, None] ^ right).sum(axis=2)
    near = distances <= limit
    return np.argwhere(np.triu(near, 1) if others is None else near)


@pytest.mark.parametrize("limit", [0, 1, 3, 8, 20])
@pytest.mark.parametrize("words", [1, 4])
def test_the_pairs_are_those_of_comparing_everything(words, limit):
    hashes = plant(random_hashes(400, words))
    expected = brute_force(hashes, limit)
    assert len(expected) > 5
    assert np.array_equal(near_pairs(hashes, limit), expected)


def test_pairs_of_two_arrays_are_those_of_comparing_everything():
    hashes = plant(random_hashes(300, 4))
    others = plant(hashes[::-1].copy(), seed=2)
    expected = brute_force(hashes, 6, others)
    assert len(expected) > 100
    assert np.array_equal(near_pairs(hashes, 6, others), expected)


def test_many_equal_hashes_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr("sightx.audit.near_pairs._BLOCK", 7)
    hashes = np.repeat(random_hashes(3, 4), 5, axis=0)
    assert np.array_equal(near_pairs(hashes, 2), brute_force(hashes, 2))


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count):
    assert near_pairs(random_hashes(count, 4), 20).shape == (0, 2)


def test_hamming_counts_different_bits():
    left, right = np.array([[0, 0], [7, 1]], np.uint64), np.array([[0, 0], [0, 2]], np.uint64)
    assert hamming(left, right).tolist() == [0, 5]
