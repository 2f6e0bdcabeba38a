"""Predictions for new images, from a run directory alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import nn

from sightx.data import preprocess
from sightx.data.decode.decoder import BadImage, from_pil
from sightx.data.loader.loader import BatchLoader
from sightx.errors import DataError, Problem, wrong_type
from sightx.evaluation import metrics
from sightx.inference.recipe import Recipe
from sightx.io.files import argument_path
from sightx.records.pixels import PixelRows
from sightx.records.predictions import Predictions
from sightx.registry import loading
from sightx.registry.components import call_declared
from sightx.runs import checkpoints
from sightx.runs.directory import Run, open_run
from sightx.runs.lookup import find_run_project
from sightx.training.evaluator import forward
from sightx.training.setup import build_module, choose_device, to_channels_last
from sightx.training.weights import load_strict

if TYPE_CHECKING:
    from PIL.Image import Image

    Input = bytes | str | Path | BinaryIO | Image

_log = logging.getLogger("sightx")


@dataclass(frozen=True)
class Prediction:
    """The predicted class of one image, and the probability of each class, in stored order."""

    decision: str
    probabilities: Mapping[str, float]


class Predictor:
    """Predict the classes of images with a checkpoint."""

    def __init__(self, recipe: Recipe, module: nn.Module, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        self.module = module.to(device).eval()
        # As in training, so that the outputs are the same.
        to_channels_last(module, recipe.model, device, recipe.precision)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Predictor:
        """Load the preferred checkpoint of a run directory, or a checkpoint's own directory.

        `device` is cpu, cuda, cuda:1, mps or auto. Raises RunError if there is no checkpoint or it
        is damaged, PluginError if a component is not installed.
        """
        folder = argument_path(path)
        if (folder / checkpoints.MANIFEST).is_file():
            run = Run(folder.absolute().parents[1])
        else:
            run = open_run(folder)
            folder = run.checkpoint()
        files = checkpoints.read_verified(folder)
        registry = loading.load_registry(find_run_project(run))
        recipe = Recipe.read(files["recipe.json"], registry, str(folder / "recipe.json"))
        for warning in recipe.changed_components(registry):
            _log.warning("%s", warning)
        module = build_module(recipe.model, recipe.loss, len(recipe.classes), recipe.shape, seed=0)
        load_strict(module, checkpoints.parse_weights(files, folder), file=str(folder))
        return cls(recipe, module, choose_device(device, key=""))

    def predict(self, image: Input) -> Prediction:
        """Return the prediction for one image: encoded bytes, a path, an open file or a PIL image.

        Raises DataError if it cannot be read.
        """
        return self.predict_all([image])[0]

    def predict_all(self, images: Iterable[Input]) -> list[Prediction]:
        """Return the prediction for each image; all of them are one batch."""
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):
            raise wrong_type("images", images, "a list of images", "predict takes one image")
        images = list(images)
        if not images:
            return []
        rows = torch.stack([self._preprocess(image) for image in images])
        loader = BatchLoader(
            PixelRows.of(rows),
            np.full(len(rows), -1),
            (self.recipe.mean, self.recipe.std),
            self.device,
        )
        batch, _ = loader.load(np.arange(len(rows)))
        table = self._postprocess(forward(self.module, batch, self.recipe.precision))
        classes = self.recipe.classes
        return [
            Prediction(classes[decision], dict(zip(classes, map(float, row), strict=True)))
            for decision, row in zip(table.decisions, table.probabilities, strict=True)
        ]

    def _preprocess(self, image: Input) -> torch.Tensor:
        """Return the preprocessed image, uint8 (C, H, W)."""
        name = str(image) if isinstance(image, (str, Path)) else "image"
        try:
            return preprocess.preprocess_image(
                _encoded_or_pixels(image), self.recipe.preprocess, self.recipe.min_decoded_size
            )
        except BadImage as error:
            raise DataError(Problem("bad-image", error.reason, file=name)) from error
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            raise DataError(Problem("bad-image", message, file=name)) from error

    def _postprocess(self, outputs: torch.Tensor) -> Predictions:
        """Return the prediction table of outputs (B, K)."""
        loss = self.recipe.loss
        classes = len(self.recipe.classes)
        probabilities = call_declared(loss.probabilities, outputs, classes=classes)
        names = tuple(str(number) for number in range(len(outputs)))
        table = Predictions(
            keys=names,
            groups=names,
            labels=np.full(len(outputs), -1),
            outputs=outputs.cpu().numpy(),
            probabilities=probabilities.cpu().numpy(),
            decisions=call_declared(loss.decision, probabilities).cpu().numpy(),
            classes=self.recipe.classes,
            ordered=self.recipe.ordered,
        )
        return metrics.apply_postprocess(
            self.recipe.postprocess, list(self.recipe.postprocess_states), table
        )


def _encoded_or_pixels(
    image: Input,
) -> bytes | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the encoded bytes of an image, or the uint8 pixels (H, W, 3) of a PIL image."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, Path)):
        return argument_path(image).read_bytes()
    if hasattr(image, "read"):
        return image.read()
    if not hasattr(image, "getbands"):
        expected = "encoded bytes, a path, an open file or a PIL image"
        raise wrong_type("image", image, expected, "predict_all takes a list of them")
    return from_pil(image)
