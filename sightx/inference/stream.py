"""Predict many images: decoded in threads, in bounded memory, answered in the order given."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from sightx.data.preprocess import decode_pool, map_in_order
from sightx.errors import DataError, NonFiniteError, SightXError
from sightx.inference.prediction import Prediction
from sightx.io import system

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.inference.predictor import Input, Predictor


class Answer(NamedTuple):
    """The result for one image of a stream.

    Attributes:
        name: The path of the image, or its number in the stream.
        prediction: The prediction; None if there is none.
        error: Why there is none: a DataError for an image that cannot be read, a NonFiniteError
            for an output of the network that is not finite.
        pixels: The preprocessed image, uint8 (C, H, W); None if it cannot be read.
    """

    name: str
    prediction: Prediction | None
    error: SightXError | None
    pixels: Tensor | None

    @property
    def answers(self) -> Sequence[Answer]:
        """Return the answer itself: a patient has several."""
        return (self,)


def predict_stream(
    predictor: Predictor,
    images: Iterable[Input | SightXError],
    *,
    batch_size: int = 1,
    threads: int = 0,
) -> Generator[Answer, None, None]:
    """Yield one answer per image, in their order; a bad image does not stop the others.

    Args:
        predictor: What predicts them.
        images: Images as `Predictor.predict` takes them, or the error why there is none. Only a few
            are taken ahead.
        batch_size: Images that the network computes at once. With 1, an answer does not depend on
            the other images, not even in its last digit.
        threads: Threads that decode; 0 means one per core.
    """

    def prepare(item: tuple[int, Input | SightXError]) -> Answer:
        number, image = item
        if isinstance(image, SightXError):
            return Answer(image.problems[0].file, None, image, None)
        name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
        try:
            return Answer(name, None, None, predictor.preprocess(image))
        except DataError as error:
            return Answer(name, None, error, None)

    ahead = max(3 * (threads or system.cpu_count()), 2 * batch_size)
    with decode_pool(threads) as pool:
        items = enumerate(images, start=1)
        with closing(map_in_order(pool, prepare, items, ahead)) as prepared:
            while batch := list(islice(prepared, batch_size)):
                yield from _predict(predictor, batch)


def _predict(predictor: Predictor, batch: Sequence[Answer]) -> list[Answer]:
    """Return the answers of prepared images; those of a batch that fails are tried one by one."""
    pixels = [answer.pixels for answer in batch if answer.pixels is not None]
    if not pixels:
        return list(batch)
    try:
        predictions = iter(predictor.predict_pixels(torch.stack(pixels)))
    except NonFiniteError as error:
        if len(pixels) > 1:
            return [answer for one in batch for answer in _predict(predictor, [one])]
        return [one._replace(error=error) if one.pixels is not None else one for one in batch]
    return [
        one._replace(prediction=next(predictions)) if one.pixels is not None else one
        for one in batch
    ]
