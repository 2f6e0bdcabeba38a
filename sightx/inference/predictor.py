"""Predictions for new images, from a run directory alone."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.data import preprocess
from sightx.data.decode.decoder import FORMATS, PIXEL_LIMIT, BadImage, from_pil
from sightx.data.loader.loader import BatchLoader
from sightx.errors import DataError, NonFiniteError, Problem, RunError, wrong_type
from sightx.evaluation import metrics
from sightx.inference import model_folder
from sightx.inference.explain import Explanation, draw, grad_cam, last_spatial_layer
from sightx.inference.onnx_network import OnnxNetwork
from sightx.inference.prediction import (
    BinaryAnswer,
    ClassProbability,
    Graded,
    ModelId,
    OperatingPointAnswer,
    Prediction,
    Ungradable,
)
from sightx.inference.quality import judge
from sightx.inference.recipe import Recipe
from sightx.io.files import argument_path, hint_for_missing
from sightx.records.pixels import PixelRows
from sightx.records.predictions import Predictions
from sightx.registry import loading
from sightx.registry.components import call_declared
from sightx.registry.project import Project, find_project
from sightx.run_registry.find import locate_run
from sightx.runs import checkpoints
from sightx.runs.directory import Run
from sightx.runs.lookup import find_run_project
from sightx.training.evaluator import forward
from sightx.training.setup import build_module, choose_device, to_channels_last
from sightx.training.tta import with_tta
from sightx.training.weights import load_strict

if TYPE_CHECKING:
    from PIL.Image import Image

    Pixels = np.ndarray[Any, Any]
    Input = bytes | str | Path | BinaryIO | Image | Pixels

Engine = Literal["torch", "onnx", "int8"]
_FILES = {
    "torch": model_folder.WEIGHTS, "onnx": model_folder.ONNX, "int8": model_folder.INT8
}  # fmt: skip
_log = logging.getLogger("sightx")


class _PixelLoader(BatchLoader):
    """Load pixels as they are, for a network that normalises them itself."""

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the pixels."""
        return pixels


class _Source(NamedTuple):
    """What a predictor is made of: verified files, the project of its plugins, its name."""

    files: Mapping[str, bytes]
    project: Project
    model: ModelId


class Predictor:
    """Predict the classes of images with a checkpoint; several threads may use one predictor.

    Images are decoded and preprocessed in the threads that call it; the network computes one batch
    at a time. A batch of one gives the bits of an evaluation with `training.batch_size = 1`; in
    larger batches the last digits may differ.
    """

    def __init__(
        self, recipe: Recipe, module: nn.Module, device: torch.device, model: ModelId
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.model = model
        self.module = module.to(device).eval()
        # As in training, so that the outputs are the same.
        to_channels_last(module, recipe.model, device, recipe.precision)
        no_rows = PixelRows.of(torch.empty((0, *recipe.shape), dtype=torch.uint8))
        self._loader = self.loader(no_rows, np.empty(0))
        self._network_lock = threading.Lock()
        self._explained_layer: nn.Module | None = None  # the same for all images

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", *, engine: Engine = "torch") -> Predictor:
        """Load a run directory, by default its preferred checkpoint, or an exported model.

        Args:
            path: A run directory, a checkpoint's directory, or the folder of an exported model; or
                RUN as for `sightx.open_run`, such as "last" or "last@best".
            device: cpu, cuda, cuda:1, mps or auto.
            engine: What computes the network: torch, or, of a model exported to ONNX, onnx or int8,
                which are computed on the CPU.

        Raises RunError if there is no checkpoint or it is damaged, PluginError if a component is
        not installed.
        """
        folder = argument_path(path)
        is_exported = model_folder.is_model_folder(folder)
        if engine != "torch" and not is_exported:
            hint = "sightx export RUN --to FOLDER --format onnx writes one"
            message = "only an exported model is computed with ONNX"
            raise RunError(Problem("no-onnx", message, hint, file=str(path)))
        folder = folder if is_exported else _checkpoint_folder(path)
        source = _read_model_folder(folder, engine) if is_exported else _read_checkpoint(folder)
        registry = loading.load_registry(source.project)
        recipe = Recipe.read(source.files["recipe.json"], registry, str(folder / "recipe.json"))
        for warning in recipe.changed_components(registry):
            _log.warning("%s", warning)
        if engine != "torch":
            network = OnnxNetwork(source.files[_FILES[engine]], torch.get_num_threads())
            return cls(recipe, network, torch.device("cpu"), source.model)
        module = build_module(recipe.model, recipe.loss, len(recipe.classes), recipe.shape, seed=0)
        load_strict(module, checkpoints.parse_weights(source.files, folder), file=str(folder))
        return cls(recipe, module, choose_device(device, key=""), source.model)

    @property
    def network(self) -> nn.Module:
        """Return what predicts: the module, or its mean over the views of test-time augmentation.

        An ONNX network contains the views.
        """
        is_onnx = isinstance(self.module, OnnxNetwork)
        return self.module if is_onnx else with_tta(self.module, self.recipe.tta)

    def predict(self, image: Input) -> Prediction:
        """Return the prediction for one image.

        It is encoded bytes, a path, an open file, a PIL image, or an array of RGB pixels, uint8
        (H, W, 3). Raises DataError if it cannot be read, NonFiniteError if the network's output for
        it is not finite.
        """
        return self.predict_all([image])[0]

    def predict_all(self, images: Iterable[Input]) -> list[Prediction]:
        """Return the prediction for each image; all of them are one batch.

        Raises what `predict` raises for the first bad image; the others then have no prediction. To
        go on after it, call `predict` for each image and catch `sightx.SightXError`.
        """
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):
            raise wrong_type("images", images, "a list of images", "predict takes one image")
        pixels = [self.preprocess(image) for image in images]
        return self.predict_pixels(torch.stack(pixels)) if pixels else []

    def preprocess(
        self,
        image: Input,
        *,
        formats: Sequence[str] = FORMATS,
        pixel_limit: int = PIXEL_LIMIT,
    ) -> torch.Tensor:
        """Return an image as the network sees it before normalisation, uint8 (C, H, W) on the CPU.

        Encoded images must have one of `formats`, and at most `pixel_limit` pixels. Raises
        DataError if it cannot be read.
        """
        name = str(image) if isinstance(image, (str, Path)) else "image"
        try:
            pixels = preprocess.preprocess_image(
                _encoded_or_pixels(image),
                self.recipe.preprocess,
                self.recipe.min_decoded_size,
                formats=formats,
                pixel_limit=pixel_limit,
            )
            if (shape := tuple(pixels.shape)) != self.recipe.shape:
                raise BadImage(f"it is {shape} after preprocessing, not {self.recipe.shape}")
            return pixels
        except BadImage as error:
            raise DataError(Problem("bad-image", error.reason, file=name)) from error
        except FileNotFoundError as error:
            hint = hint_for_missing(Path(name))
            raise DataError(
                Problem("no-images", "there is no such file", hint, file=name)
            ) from error
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            raise DataError(Problem("bad-image", message, file=name)) from error

    def predict_pixels(self, pixels: torch.Tensor) -> list[Prediction]:
        """Return the prediction for each preprocessed image, uint8 (B, C, H, W).

        Raises NonFiniteError if an output of the network is not finite.
        """
        graded, recipe = self.grade_pixels(pixels), self.recipe
        if recipe.quality is None:
            return [*graded]
        verdicts = judge(recipe.quality, recipe.quality_limits, pixels)
        return [
            Ungradable(quality=quality, model=self.model)
            if quality.verdict == "ungradable"
            else one.model_copy(update={"quality": quality})
            for one, quality in zip(graded, verdicts, strict=True)
        ]

    def grade_pixels(self, pixels: torch.Tensor) -> list[Graded]:
        """Return a grade for each preprocessed image, whatever its quality."""
        outputs = self.outputs(pixels)
        if not torch.isfinite(outputs).all():
            message = "the network's output for an image is not finite"
            hint = "RUN@NAME names another checkpoint"
            raise NonFiniteError(Problem("non-finite", message, hint))
        return self._answers(self.table(outputs))

    def explain(self, image: Input) -> Explanation:
        """Return where the network looked in an image, by Grad-CAM; `image` is as for `predict`.

        Raises SpecError if the network has no layer of several pixels.
        """
        return self.explain_pixels(self.preprocess(image)[None])[0]

    def explain_pixels(self, pixels: torch.Tensor) -> list[Explanation]:
        """Return the explanation of each preprocessed image, uint8 (B, C, H, W)."""
        decisions = torch.from_numpy(self.table(self.outputs(pixels)).decisions).to(self.device)
        with self._network_lock:
            images = self.normalize(pixels)
            if self._explained_layer is None:
                self._explained_layer = last_spatial_layer(self.module, images[:1])
            layer = self._explained_layer
            maps = grad_cam(self.recipe, self.module, layer, images, decisions)
        return [draw(image, heat) for image, heat in zip(pixels, maps, strict=True)]

    def outputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs, float32 (B, K), for pixels, uint8 (B, C, H, W)."""
        with self._network_lock:
            return forward(self.network, self.normalize(pixels), self.recipe.precision)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels, uint8 (B, C, H, W), as normalised floats on the device."""
        return self._loader.normalize(pixels.to(self.device))

    def combine(self, *predictions: Prediction | None) -> tuple[Prediction | None, ...]:
        """Return the predictions for images of one group, such as both eyes of a patient.

        They change if the run's postprocessing combines the images of a group.
        """
        graded = [one for one in predictions if isinstance(one, Graded)]
        combines = any(component.combines_groups for component in self.recipe.postprocess)
        if len(graded) < 2 or not combines:
            return predictions
        table = self.table(torch.tensor([one.outputs for one in graded]), one_group=True)
        changed = iter(self._answers(table))
        return tuple(
            next(changed).model_copy(update={"quality": one.quality})
            if isinstance(one, Graded)
            else one
            for one in predictions
        )

    def table(self, outputs: torch.Tensor, *, one_group: bool = False) -> Predictions:
        """Return the postprocessed prediction table of outputs (B, K).

        The images are strangers to each other, or, with `one_group`, those of one patient.
        """
        loss, classes = self.recipe.loss, self.recipe.classes
        probabilities = call_declared(loss.probabilities, outputs, classes=len(classes))
        names = tuple(str(number) for number in range(len(outputs)))
        table = Predictions(
            keys=names,
            groups=("group",) * len(outputs) if one_group else names,
            labels=np.full(len(outputs), -1),
            outputs=outputs.cpu().numpy(),
            probabilities=probabilities.cpu().numpy(),
            decisions=call_declared(loss.decision, probabilities).cpu().numpy(),
            classes=classes,
            ordered=self.recipe.ordered,
        )
        return metrics.apply_postprocess(
            self.recipe.postprocess, list(self.recipe.postprocess_states), table
        )

    def loader(self, rows: PixelRows, labels: Pixels, seed: int = 0) -> BatchLoader:
        """Return a loader of rows whose batches are the network's input."""
        cls = _PixelLoader if isinstance(self.module, OnnxNetwork) else BatchLoader
        return cls(rows, labels, (self.recipe.mean, self.recipe.std), self.device, seed=seed)

    def _answers(self, table: Predictions) -> list[Graded]:
        return [
            Graded(
                grade=int(table.decisions[row]) if table.ordered else None,
                class_name=table.classes[table.decisions[row]],
                probabilities=tuple(
                    ClassProbability(class_name=name, probability=float(value))
                    for name, value in zip(table.classes, table.probabilities[row], strict=True)
                ),
                decision=self._decision(table, row),
                model=self.model,
            ).with_outputs(table.outputs[row].tolist())
            for row in range(len(table.decisions))
        ]

    def _decision(self, table: Predictions, row: int) -> BinaryAnswer | None:
        """Return the binary decision for one row; None if none is declared."""
        binary = self.recipe.binary
        if binary is None:
            return None
        (score,) = binary.scores(table.probabilities[row : row + 1], table.classes).tolist()
        points = tuple(
            OperatingPointAnswer(
                name=point.name, threshold=threshold, is_positive=score >= threshold
            )
            for point, threshold in binary.chosen_points()
        )
        return BinaryAnswer(positive=binary.positive, score=score, operating_points=points)


def _checkpoint_folder(path: str | Path) -> Path:
    """Return the directory of a checkpoint; of a run, that of its preferred one."""
    if (argument_path(path) / checkpoints.MANIFEST).is_file():
        return argument_path(path)
    run, checkpoint = locate_run(path)
    return run.checkpoint(checkpoint)


def _read_checkpoint(folder: Path) -> _Source:
    run = Run(folder.absolute().parents[1])
    files = checkpoints.read_verified(folder)
    digest = hashlib.sha256(files[checkpoints.WEIGHTS]).hexdigest()
    model = ModelId(
        id=f"{run.id}@{folder.name}",
        weights_sha256=digest,
        experiment_sha256=str(run.environment.get("id", "")),
    )
    return _Source(files, find_run_project(run), model)


def _read_model_folder(folder: Path, engine: Engine) -> _Source:
    """Read what an engine needs of an exported model; only files with the right hash are used."""
    manifest = model_folder.read_manifest(folder)
    network = _FILES[engine]
    if network not in manifest.files:
        hint = "sightx export RUN --to FOLDER --format onnx writes one"
        if engine == "int8":
            hint = "sightx export RUN --to FOLDER --int8 writes one"
        raise RunError(Problem("no-onnx", f"the model has no {network}", hint, file=str(folder)))
    names = (model_folder.RECIPE, network)
    files = {name: model_folder.read_file(folder, manifest, name) for name in names}
    digest = manifest.files[model_folder.WEIGHTS].sha256
    around = find_project(folder.absolute())
    project = around if around.plugins else find_project(Path.cwd())
    model = ModelId(
        id=manifest.id,
        weights_sha256=digest,
        experiment_sha256=manifest.experiment,
        engine=engine,
    )
    return _Source(files, project, model)


def _encoded_or_pixels(image: Input) -> bytes | Pixels:
    """Return the encoded bytes of an image, or uint8 pixels (H, W, 3)."""
    if isinstance(image, (bytes, np.ndarray)):
        return image
    if isinstance(image, (str, Path)):
        return argument_path(image).read_bytes()
    if hasattr(image, "read"):
        return image.read()
    if not hasattr(image, "getbands"):
        expected = "encoded bytes, a path, an open file, a PIL image or an array of pixels"
        raise wrong_type("image", image, expected, "predict_all takes a list of them")
    return from_pil(image)
