"""From the bytes of an image to its answer: admission, decoding, the network, time limits."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image

from sightx.data.decode.decoder import TooManyPixels, TruncatedImage
from sightx.data.decode.formats import format_of
from sightx.errors import DataError, NonFiniteError
from sightx.inference.model_folder import Figure
from sightx.inference.predictor import Predictor
from sightx.serving.batcher import Batcher, Computed
from sightx.serving.errors import RequestError
from sightx.serving.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("JPEG", "PNG")
_log = logging.getLogger("sightx.serving")


class About(NamedTuple):
    """What is known of a model besides its recipe: its card, as Markdown, and its metrics."""

    card: str = ""
    figures: tuple[Figure, ...] = ()


class Service:
    """Answer for images; all methods are called in one event loop.

    At most `settings.max_queue` images wait or are computed; more are refused at once.
    """

    def __init__(self, predictor: Predictor, settings: Settings, about: About = About()) -> None:  # noqa: B008 - a constant
        self.predictor, self.settings, self.about = predictor, settings, about
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.batcher = Batcher(predictor, settings.max_batch)
        self.waiting = 0
        """Images that wait or are computed."""
        self.held_bytes = 0
        """Bytes of all bodies."""
        self._explaining = 0
        self._timeouts = set[asyncio.Timeout]()

    async def start(self) -> None:
        """Warm the network up. Raises what it raises."""
        await self.batcher.start()
        if self.state == "starting":
            self.state = "ready"
            sizes = ", ".join(map(str, self.batcher.sizes))
            milliseconds = 1000 * self.batcher.seconds_per_image
            _log.info("ready: %.1f ms per image, batches of %s", milliseconds, sizes)

    def stop(self) -> None:
        """End the threads; no request may be in work."""
        self.batcher.stop()

    def abort(self) -> None:
        """Answer all requests that are in work with an error."""
        now = asyncio.get_running_loop().time()
        for timeout in self._timeouts:
            timeout.reschedule(now)

    def check_open(self, images: int = 1) -> None:
        """Raise RequestError unless more images would be admitted now."""
        if self.state == "starting":
            raise RequestError("not_ready", retry_after=1)
        if self.state == "draining":
            raise RequestError("draining", retry_after=5)
        if self.waiting + images > self.settings.max_queue:
            raise RequestError("busy", retry_after=self.retry_after())
        if self._wait_seconds() > self.settings.timeout:
            raise RequestError("too_late", retry_after=self.retry_after())

    def retry_after(self) -> int:
        """Return after how many seconds the queue will be empty, more or less, at least 1."""
        return math.ceil(self._wait_seconds() * random.uniform(0.8, 1.2)) or 1  # noqa: S311

    @asynccontextmanager
    async def time_limit(self, seconds: float, code: str) -> AsyncIterator[asyncio.Timeout]:
        """Raise RequestError if the body takes longer, or if the server stops."""
        try:
            async with asyncio.timeout(seconds) as timeout:
                self._timeouts.add(timeout)
                try:
                    yield timeout
                finally:
                    self._timeouts.discard(timeout)
        except TimeoutError:
            is_stopping = self.state == "draining"
            raise RequestError(
                "draining" if is_stopping else code, retry_after=self.retry_after()
            ) from None

    async def predict(self, images: Mapping[str, bytes]) -> list[Computed]:
        """Return the predictions for encoded images, by the names of their parts, in their order.

        Raises RequestError, which names the part if there are several.
        """
        with self._admitted(len(images)):
            parts = [f"{name}: " if len(images) > 1 else "" for name in images]
            return await asyncio.gather(*map(self._predict, images.values(), parts))

    async def _predict(self, encoded: bytes, part: str) -> Computed:
        """Return the prediction for an image; `part` begins the message of an error."""
        decode, is_alone = partial(self._decode, encoded), self.waiting == 1
        try:
            return await self.batcher.predict(decode, is_alone=is_alone)
        except (NonFiniteError, RequestError) as error:
            known = error if isinstance(error, RequestError) else RequestError("non_finite_output")
            raise RequestError(known.code, part + known.message, known.hint) from error

    async def explain(self, encoded: bytes) -> bytes:
        """Return the picture of where the network looked, as PNG. Raises RequestError."""
        if not self.batcher.can_explain:
            if (engine := self.predictor.model.engine) == "torch":
                raise RequestError("cannot_explain")
            hint = f"serve the run without --engine {engine}"
            raise RequestError("cannot_explain", "ONNX Runtime cannot explain a network", hint)
        if self._explaining >= self.settings.max_explanations:
            raise RequestError("busy", retry_after=self.retry_after())
        self._explaining += 1
        try:
            with self._admitted():
                explanation = await self.batcher.explain(partial(self._decode, encoded))
        finally:
            self._explaining -= 1
        picture = io.BytesIO()
        Image.fromarray(explanation.overlay).save(picture, "PNG")
        return picture.getvalue()

    @contextmanager
    def _admitted(self, images: int = 1) -> Iterator[None]:
        self.check_open(images)
        self.waiting += images
        try:
            yield
        finally:
            self.waiting -= images

    def _wait_seconds(self) -> float:
        return self.waiting * self.batcher.seconds_per_image

    def _decode(self, encoded: bytes) -> Tensor:
        """Return a preprocessed image, uint8 (C, H, W); called in other threads."""
        image_format = format_of(encoded)
        if image_format is None or image_format.name not in FORMATS:
            raise RequestError("not_jpeg_or_png")
        limit = self.settings.max_pixels
        try:
            return self.predictor.preprocess(encoded, formats=FORMATS, pixel_limit=limit)
        except DataError as error:
            raise _image_error(error, limit) from error


def _image_error(error: DataError, limit: int) -> RequestError:
    if isinstance(error.__cause__, TruncatedImage):
        return RequestError("truncated")
    if isinstance(error.__cause__, TooManyPixels):
        return RequestError("too_many_pixels", f"the image has more than {limit:,} pixels")
    return RequestError("unreadable")
