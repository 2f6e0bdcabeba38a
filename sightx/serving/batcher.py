"""The one thread that calls the network: it computes the images that wait, as one batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sightx.errors import NonFiniteError
from sightx.inference.explain import Explanation
from sightx.inference.prediction import Prediction
from sightx.inference.predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = (8, 4, 2, 1)
_GAIN = 0.95  # a batch is used if it takes less than this share of a single image's time per image
_REPEATS = 3
_SMOOTHING = 0.2  # weight of the newest batch in the mean time per image
_STALLED = 30.0  # seconds


class Computed(NamedTuple):
    """A prediction, and the size of the batch that it was computed in."""

    prediction: Prediction
    batch_size: int


class _Job(NamedTuple):
    pixels: Tensor
    future: Future[Any]


class Batcher:
    """Compute predictions in one thread, several images at once if several wait.

    A batch never waits for more images. Predictions go before explanations. A batch that fails is
    computed again image by image, so that a bad image does not harm the others. One thread makes
    all calls of the network, because OpenMP keeps a pool of threads for each thread that calls it.
    """

    def __init__(self, predictor: Predictor, max_batch: int) -> None:
        self.sizes: tuple[int, ...] = (1,)
        """Sizes of batches, the largest first."""
        self.seconds_per_image = 0.0
        """Time of the network per image, smoothed."""
        self.can_explain = False
        """Whether Grad-CAM works for this network."""
        self._predictor, self._max_batch = predictor, max_batch
        self._ready = Future[None]()
        self._predictions, self._explanations = deque[_Job](), deque[_Job]()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._busy_since = 0.0
        self._thread = threading.Thread(target=self._run, name="sightx-network", daemon=True)

    def start(self) -> asyncio.Future[None]:
        """Start the thread. The result is there, or the network's error, after a warm-up."""
        self._thread.start()
        return asyncio.wrap_future(self._ready)

    def stop(self) -> None:
        """End the thread after its batch; one that is stalled is not waited for."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    @property
    def is_stalled(self) -> bool:
        """Return whether the network has been computing one batch for far too long."""
        since = self._busy_since
        return bool(since) and time.monotonic() - since > _STALLED

    def predict(self, pixels: Tensor) -> asyncio.Future[Computed]:
        """Return the future prediction for a preprocessed image, uint8 (C, H, W).

        If it is cancelled before its batch begins, the image is not computed.
        """
        return self._add(self._predictions, pixels)

    def explain(self, pixels: Tensor) -> asyncio.Future[Explanation]:
        """Return the future explanation of a preprocessed image, uint8 (C, H, W)."""
        return self._add(self._explanations, pixels)

    def _add(self, jobs: deque[_Job], pixels: Tensor) -> asyncio.Future[Any]:
        job = _Job(pixels, Future())
        with self._changed:
            jobs.append(job)
            self._changed.notify()
        return asyncio.wrap_future(job.future)

    def _run(self) -> None:
        try:
            self._warm_up()
        except Exception as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while compute := self._next():
            self._busy_since = time.monotonic()
            compute()
            self._busy_since = 0.0

    def _next(self) -> Callable[[], None] | None:
        """Wait for jobs, and return what computes those of the next batch; None to end."""
        with self._changed:
            while not self._is_stopping:
                if self._predictions:
                    waiting = len(self._predictions)
                    size = next(size for size in self.sizes if size <= waiting)
                    if jobs := _start([self._predictions.popleft() for _ in range(size)]):
                        return partial(self._predict, jobs)
                elif self._explanations:
                    if jobs := _start([self._explanations.popleft()]):
                        return partial(self._explain, *jobs)
                else:
                    self._changed.wait()
        return None

    def _predict(self, jobs: Sequence[_Job]) -> None:
        start = time.monotonic()
        try:
            pixels = torch.stack([job.pixels for job in jobs])
            predictions = self._predictor.predict_pixels(pixels)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
            for job in jobs if len(jobs) > 1 else ():
                self._predict([job])
            return
        seconds = (time.monotonic() - start) / len(jobs)
        self.seconds_per_image += _SMOOTHING * (seconds - self.seconds_per_image)
        for job, prediction in zip(jobs, predictions, strict=True):
            job.future.set_result(Computed(prediction, len(jobs)))

    def _explain(self, job: _Job) -> None:
        try:
            job.future.set_result(self._predictor.explain_pixels(job.pixels[None])[0])
        except Exception as error:
            job.future.set_exception(error)

    def _warm_up(self) -> None:
        """Compute noise in each size of a batch, and keep the sizes that are worth it."""
        generator = torch.Generator().manual_seed(0)
        shape = (self._max_batch, *self._predictor.recipe.shape)
        pixels = torch.randint(256, shape, generator=generator).to(torch.uint8)
        sizes = [size for size in _SIZES if size <= self._max_batch]
        seconds = {size: self._time_per_image(pixels[:size]) for size in sizes}
        self.seconds_per_image = seconds[1]
        self.sizes = tuple(n for n in sizes if n == 1 or seconds[n] < _GAIN * seconds[1])
        with suppress(Exception):  # a network without a layer of several pixels, or not in torch
            self._predictor.explain_pixels(pixels[:1])
            self.can_explain = True

    def _time_per_image(self, pixels: Tensor) -> float:
        """Return the shortest of a few times, after one that does not count."""
        times = []
        for _ in range(1 + _REPEATS):
            start = time.monotonic()
            with suppress(NonFiniteError):  # noise is not an image
                self._predictor.predict_pixels(pixels)
            times.append(time.monotonic() - start)
        return min(times[1:]) / len(pixels)


def _start(jobs: Sequence[_Job]) -> list[_Job]:
    """Return the jobs that were not cancelled; from here on they cannot be."""
    return [job for job in jobs if job.future.set_running_or_notify_cancel()]
