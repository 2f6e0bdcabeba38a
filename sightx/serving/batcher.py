"""From encoded images to predictions: threads that decode, and the one that calls the network."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sightx.data.preprocess import decode_pool
from sightx.errors import NonFiniteError
from sightx.inference.explain import Explanation
from sightx.inference.prediction import Prediction
from sightx.inference.predictor import Predictor
from sightx.io import system

if TYPE_CHECKING:
    from torch import Tensor

Decode = Callable[[], "Tensor"]
"""Returns a preprocessed image, uint8 (C, H, W)."""
_SIZES = (8, 4, 2, 1)
_GAIN = 0.95  # a batch is used if it takes less than this share of a single image's time per image
_REPEATS = 3
_SMOOTHING = 0.2  # weight of the newest batch in the mean time per image
_STALLED = 30.0  # seconds


class Computed(NamedTuple):
    """A prediction, the size of the batch that it was computed in, and seconds of decoding."""

    prediction: Prediction
    batch_size: int
    decode_seconds: float


class _Job:
    """An image on its way to an answer; a job whose future is cancelled goes no further."""

    def __init__(self, decode: Decode) -> None:
        self.future = Future[Any]()
        self.pixels: Tensor | None = None
        self.decode_seconds = 0.0
        self._decode = decode

    def prepare(self) -> Tensor:
        """Decode the image, unless that was done, and return its pixels."""
        if self.pixels is None:
            start = time.monotonic()
            self.pixels = self._decode()
            self.decode_seconds = time.monotonic() - start
        return self.pixels


class Batcher:
    """Decode in several threads, and compute in one, several images at once if several wait.

    A batch never waits for more images. Predictions go before explanations. A batch that fails is
    computed again image by image, so that a bad image does not harm the others. One thread makes
    all calls of the network, because OpenMP keeps a pool of threads for each thread that calls it.
    """

    def __init__(self, predictor: Predictor, max_batch: int) -> None:
        self.sizes: tuple[int, ...] = (1,)
        """Sizes of batches, the largest first."""
        self.seconds_per_image = 0.0
        """Time of the network or of all decoding threads per image, the longer one, smoothed."""
        self.can_explain = False
        """Whether Grad-CAM works for this network."""
        self._predictor, self._max_batch = predictor, max_batch
        self._ready = Future[None]()
        self._predictions, self._explanations = deque[_Job](), deque[_Job]()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._busy_since = 0.0
        self._pool = decode_pool()
        self._thread = threading.Thread(target=self._run, name="sightx-network", daemon=True)

    def start(self) -> asyncio.Future[None]:
        """Start the thread. The result is there, or the network's error, after a warm-up."""
        self._thread.start()
        return asyncio.wrap_future(self._ready)

    def stop(self) -> None:
        """End the threads after what they compute; one that is stalled is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    @property
    def is_stalled(self) -> bool:
        """Return whether the network has been computing one batch for far too long."""
        since = self._busy_since
        return bool(since) and time.monotonic() - since > _STALLED

    def predict(self, decode: Decode, *, is_alone: bool = False) -> asyncio.Future[Computed]:
        """Return the future prediction for an image.

        If it is cancelled before its batch begins, the image is not computed. An image that
        `is_alone` is decoded by the network's thread, which saves a change of threads.
        """
        return self._add(self._predictions, decode, is_alone)

    def explain(self, decode: Decode) -> asyncio.Future[Explanation]:
        """Return the future explanation of an image."""
        return self._add(self._explanations, decode)

    def _add(
        self, jobs: deque[_Job], decode: Decode, is_alone: bool = False
    ) -> asyncio.Future[Any]:
        job = _Job(decode)
        if is_alone:
            self._put(jobs, job)
        else:
            self._pool.submit(self._prepare, jobs, job)
        return asyncio.wrap_future(job.future)

    def _prepare(self, jobs: deque[_Job], job: _Job) -> None:
        """Decode an image in a thread of the pool."""
        if job.future.cancelled():
            return
        with _failing(job):
            job.prepare()
            self._put(jobs, job)

    def _put(self, jobs: deque[_Job], job: _Job) -> None:
        with self._changed:
            jobs.append(job)
            self._changed.notify()

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
        try:
            self._compute(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._predict([job])

    def _compute(self, jobs: Sequence[_Job]) -> None:
        pixels = torch.stack([job.prepare() for job in jobs])
        start = time.monotonic()
        predictions = self._predictor.predict_pixels(pixels)
        decoding = sum(job.decode_seconds for job in jobs) / system.cpu_count()
        seconds = max(time.monotonic() - start, decoding) / len(jobs)
        self.seconds_per_image += _SMOOTHING * (seconds - self.seconds_per_image)
        for job, prediction in zip(jobs, predictions, strict=True):
            job.future.set_result(Computed(prediction, len(jobs), job.decode_seconds))

    def _explain(self, job: _Job) -> None:
        with _failing(job):
            job.future.set_result(self._predictor.explain_pixels(job.prepare()[None])[0])

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


@contextmanager
def _failing(job: _Job) -> Iterator[None]:
    """Give an exception of the body to the coroutine that waits for the job."""
    try:
        yield
    except Exception as error:
        if job.future.running() or job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)


def _start(jobs: Sequence[_Job]) -> list[_Job]:
    """Return the jobs that were not cancelled; from here on they cannot be."""
    return [job for job in jobs if job.future.set_running_or_notify_cancel()]
