"""Batches: what waits is computed together, in order, in sizes that are worth it."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import torch

from sightx import Predictor
from sightx.serving.batcher import Batcher
from support.serving import held


def pixels_of(predictor: Predictor, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (count, *predictor.recipe.shape)
    return list(torch.randint(256, shape, generator=generator).to(torch.uint8))


def shares(predictor: Predictor, pixels: torch.Tensor) -> list[float]:
    (prediction,) = predictor.predict_pixels(pixels[None])
    return [share.probability for share in prediction.probabilities]


def run_together(predictor: Predictor, count: int, sizes: tuple[int, ...], max_batch: int):
    """Predict images that all wait while the network is held; return answers and batches."""
    slow, network = held(predictor)
    pixels = pixels_of(predictor, count)

    async def main():
        batcher = Batcher(slow, max_batch)
        await batcher.start()
        batcher.sizes = sizes
        network.batches.clear()
        network.go.clear()
        first = batcher.predict(lambda: pixels[0], is_alone=True)
        while batcher._predictions:
            await asyncio.sleep(0.001)
        rest = []
        for image in pixels[1:]:
            rest.append(batcher.predict(partial(torch.clone, image)))
            while len(batcher._predictions) < len(rest):
                await asyncio.sleep(0.001)
        rest[3].cancel()
        network.go.set()
        computed = await asyncio.gather(first, *rest, return_exceptions=True)
        batcher.stop()
        return computed

    computed = asyncio.run(main())
    assert isinstance(computed.pop(4), asyncio.CancelledError)
    del pixels[4]
    actual = [[share.probability for share in one.prediction.probabilities] for one in computed]
    return np.array(actual), np.array([shares(predictor, one) for one in pixels]), network.batches


def test_images_that_wait_are_computed_together_and_keep_their_order(predictor) -> None:
    actual, expected, batches = run_together(predictor, 16, (8, 4, 2, 1), 8)
    assert batches in ([1, 7, 4, 2, 1], [1, 8, 4, 2, 1])  # one was cancelled, early or late
    assert np.abs(actual - expected).max() < 1e-5  # noise gives large outputs


def test_with_batches_of_one_answers_have_the_bits_of_predict(predictor) -> None:
    actual, expected, batches = run_together(predictor, 8, (1,), 1)
    assert batches in ([1] * 7, [1] * 8)  # one was cancelled, early or late
    assert np.array_equal(actual, expected)


def test_sizes_that_are_not_faster_are_left_out(predictor: Predictor, monkeypatch) -> None:
    times = {1: 1.0, 2: 0.96, 4: 0.5, 8: 0.7}
    monkeypatch.setattr(Batcher, "_time_per_image", lambda self, pixels: times[len(pixels)])

    async def sizes(max_batch: int) -> tuple[int, ...]:
        batcher = Batcher(predictor, max_batch)
        await batcher.start()
        batcher.stop()
        return batcher.sizes

    assert asyncio.run(sizes(8)) == (8, 4, 1)
    assert asyncio.run(sizes(4)) == (4, 1)
    assert asyncio.run(sizes(3)) == (1,)
