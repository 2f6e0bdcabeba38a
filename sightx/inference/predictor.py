"""From a run's directory to predictions: preparation, order of classes and weights lie there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import nn

from sightx.data import preprocess
from sightx.data.decode.decoder import BadImage, from_pil
from sightx.data.loader.loader import BatchLoader
from sightx.errors import DataError, Problem
from sightx.evaluation import metrics
from sightx.inference.recipe import Recipe
from sightx.records.pixels import PixelRows
from sightx.records.predictions import Predictions
from sightx.registry import loading, project
from sightx.runs import checkpoints
from sightx.runs.directory import open_run
from sightx.training.evaluate import forward
from sightx.training.setup import build_module, choose_device, to_channels_last
from sightx.training.weights import load_strict

if TYPE_CHECKING:
    from PIL.Image import Image

    Input = bytes | str | Path | BinaryIO | Image


_log = logging.getLogger("sightx")


@dataclass(frozen=True)
class Prediction:
    """Say what one image shows: a class, and the probability of each, in stored order."""

    decision: str
    probabilities: Mapping[str, float]


class Predictor:
    """Predict images as a run's checkpoint says."""

    def __init__(self, recipe: Recipe, module: nn.Module, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        self.module = module.to(device).eval()
        to_channels_last(module, device, recipe.precision)  # as in training: the same figures

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Predictor:
        """Load a run's best checkpoint, or a checkpoint's own directory.

        Raises RunError where files are damaged, PluginError where a component is not installed.
        """
        path = Path(path)
        folder = path if (path / checkpoints.MANIFEST).is_file() else open_run(path).checkpoint()
        files = checkpoints.read_verified(folder)
        # A run lies in its project; one that was moved meets the plugins of where we are.
        above = project.find_project(folder)
        registry = loading.load_registry(
            above if above.plugins else project.find_project(Path.cwd())
        )
        recipe = Recipe.read(files["recipe.json"], registry, str(folder / "recipe.json"))
        for warning in recipe.changes(registry):
            _log.warning("%s", warning)
        module = build_module(recipe.model, recipe.loss, len(recipe.classes), recipe.shape, seed=0)
        load_strict(module, checkpoints.load_weights(files, folder), file=str(folder))
        return cls(recipe, module, choose_device(device))

    def predict(self, image: Input) -> Prediction:
        """Return the class of one image: encoded bytes, a path, an open file or a PIL image.

        Raises DataError where it cannot be read.
        """
        return self.predict_all([image])[0]

    def predict_all(self, images: Sequence[Input]) -> list[Prediction]:
        """Return the class of each image, predicted as one batch."""
        if not images:
            return []
        rows = torch.stack([self._prepared(image) for image in images])
        batches = BatchLoader(
            PixelRows.of(rows),
            np.full(len(rows), -1),
            (self.recipe.mean, self.recipe.deviation),
            self.device,
        )
        batch, _ = batches.plain(np.arange(len(rows)))
        predictions = self._decide(forward(self.module, batch, self.recipe.precision))
        classes = self.recipe.classes
        return [
            Prediction(classes[decision], dict(zip(classes, map(float, row), strict=True)))
            for decision, row in zip(predictions.decisions, predictions.probabilities, strict=True)
        ]

    def _decide(self, batch: torch.Tensor) -> Predictions:
        loss = self.recipe.loss
        probabilities = loss.probabilities(batch)
        names = tuple(str(number) for number in range(len(batch)))
        raw = Predictions(
            keys=names,
            groups=names,
            labels=np.full(len(batch), -1),
            outputs=batch.cpu().numpy(),
            probabilities=probabilities.cpu().numpy(),
            decisions=loss.decision(probabilities).cpu().numpy(),
            classes=self.recipe.classes,
            ordered=self.recipe.ordered,
        )
        return metrics.apply_postprocess(self.recipe.postprocess, list(self.recipe.decisions), raw)

    def _prepared(self, image: Input) -> torch.Tensor:
        name = str(image) if isinstance(image, (str, Path)) else "image"
        try:
            return preprocess.preprocess_image(
                _encoded(image), self.recipe.preprocess, self.recipe.least
            )
        except BadImage as error:
            raise DataError(Problem("bad-image", error.reason, file=name)) from error
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            raise DataError(Problem("bad-image", message, file=name)) from error


def _encoded(image: Input) -> bytes | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, Path)):
        return Path(image).read_bytes()
    if hasattr(image, "read"):
        return image.read()
    if not hasattr(image, "getbands"):
        raise TypeError(f"{type(image).__name__} is no image; predict_all takes several")
    return from_pil(image)
