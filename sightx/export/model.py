"""Export a trained model: one folder that predicts, and that can be checked anywhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightx.errors import Problem, SpecError
from sightx.export import golden, graph
from sightx.export.int8 import Int8Cost, calibration_images, measure_cost, quantize
from sightx.export.model_card import model_card, read_figures
from sightx.export.parity import Parity, compare, predict_one_by_one
from sightx.inference import model_folder
from sightx.inference.model_folder import FileEntry, Manifest
from sightx.inference.onnx_network import INPUT, OUTPUTS, OnnxNetwork
from sightx.inference.predictor import Predictor
from sightx.inference.recipe import Recipe
from sightx.io import atomic
from sightx.io.files import json_bytes
from sightx.records.pixels import evenly_spaced
from sightx.registry.components import Component, to_plain
from sightx.runner.evaluate import load_run_split
from sightx.runs import checkpoints
from sightx.runs.directory import Run
from sightx.spec.merge import Overrides

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sightx.data.dataset import PreparedDataset
    from sightx.data.preprocess import ProgressCallback
    from sightx.export.parity import Array, Network

Format = Literal["onnx", "torch-export", "safetensors"]
TORCH_EXPORT, CARD, PARITY = "model.pt2", "README.md", "parity.json"
_PARITY_IMAGES = 64


@dataclass(frozen=True)
class ModelExport:
    """What was exported: the folder's manifest, and comparisons with PyTorch."""

    manifest: Manifest
    comparisons: Sequence[Parity | Int8Cost]


def export_model(
    run: Run,
    folder: Path,
    *,
    format: Format = "onnx",  # noqa: A002 - the name of the option
    int8_loss: float | None = None,
    checkpoint: str = "",
    changes: Overrides = (),
    progress: ProgressCallback | None = None,
) -> ModelExport:
    """Write the model of a checkpoint to a new folder; after a failure nothing is left of it.

    Args:
        run: The run.
        folder: The folder to write.
        format: An ONNX file, a `torch.export` program, or the weights alone.
        int8_loss: The largest loss of an added ONNX file in int8; None adds none.
        checkpoint: The name of a checkpoint; "" means the run's preferred one.
        changes: Overrides of where the data are, as for `evaluate`.
        progress: Called with (done, total) while images are preprocessed.

    Raises:
        SpecError: The folder exists, or int8 is not possible.
        DataError: The run's images cannot be read.
        PluginError: The extra `onnx` is missing.
        RunError: The network cannot be exported, differs from PyTorch, or loses more with int8.
    """
    _check_request(run, folder, format, int8_loss is not None)
    predictor = exact_predictor(Predictor.load(run.checkpoint(checkpoint), "cpu"))
    files = _stored_files(run.checkpoint(checkpoint))
    load = partial(load_run_split, run, changes=changes, progress=progress)
    networks, comparisons = _networks(run, predictor, format, int8_loss, load)
    files |= networks
    files |= _descriptions(predictor, comparisons, files.get(model_folder.INT8))
    files[CARD] = model_card(run, predictor.model, comparisons).encode()
    return ModelExport(_write(folder, _manifest(run, predictor, files), files), comparisons)


def _networks(
    run: Run,
    predictor: Predictor,
    format: Format,  # noqa: A002
    int8_loss: float | None,
    load: Callable[[str], PreparedDataset],
) -> tuple[dict[str, bytes], list[Parity | Int8Cost]]:
    """Return the files of the networks, and their comparisons; `load` prepares a split's images."""
    name, content, network = _export(predictor, format)
    if not network:
        return {}, []
    files = {name: content}
    split = "validation" if sum(run.data["counts"]["validation"]) else "train"
    data = load(split)
    pixels = data.rows.gather(evenly_spaced(data.splits[split], _PARITY_IMAGES))
    table = predict_one_by_one(predictor, pixels)
    parity = compare(name, predictor, network, pixels, table).checked()
    if int8_loss is None:
        return files, [parity]
    files[model_folder.INT8] = small = quantize(content, calibration_images(load("train")))
    return files, [parity, measure_cost(run, data, predictor, content, small).checked(int8_loss)]


def _check_request(run: Run, folder: Path, format: Format, wants_int8: bool) -> None:  # noqa: A002
    if folder.exists():
        hint = "name a folder that does not exist"
        raise SpecError(Problem("exists", f"{folder} exists", hint))
    if wants_int8 and format != "onnx":
        hint = "leave out --format, or --int8"
        raise SpecError(Problem("usage", "only an ONNX file is quantised to int8", hint))
    if wants_int8 and not sum(run.data["counts"]["validation"]):
        message = "the loss of int8 is measured on the validation split, and the run has none"
        raise SpecError(Problem("usage", message, "leave out --int8"))


def _stored_files(checkpoint: Path) -> dict[str, bytes]:
    """Return the recipe and the weights of a checkpoint."""
    stored = checkpoints.read_verified(checkpoint)
    return {name: stored[name] for name in (model_folder.RECIPE, model_folder.WEIGHTS)}


def exact_predictor(predictor: Predictor) -> Predictor:
    """Return a predictor that computes in fp32, as exported networks do."""
    recipe = predictor.recipe.model_copy(update={"precision": "fp32"})
    return Predictor(recipe, predictor.module, predictor.device, predictor.model)


def _export(predictor: Predictor, format: Format) -> tuple[str, bytes, Network | None]:  # noqa: A002
    """Return the name and the content of the network's file, and the network that it holds."""
    if format == "onnx":
        model = predictor.model.model_dump(exclude={"engine"})
        properties = {"classes": predictor.recipe.classes, "model": model}
        content = graph.to_onnx(predictor, properties)
        return model_folder.ONNX, content, OnnxNetwork(content).run
    if format == "torch-export":
        content, module = graph.to_torch_export(predictor)
        return TORCH_EXPORT, content, _arrays_of(module)
    return "", b"", None


def _arrays_of(module: nn.Module) -> Network:
    def run(pixels: Tensor) -> tuple[Array, Array]:
        probabilities, outputs = module(pixels)
        return probabilities.detach().numpy(), outputs.detach().numpy()

    return run


def _descriptions(
    predictor: Predictor, comparisons: Sequence[Parity | Int8Cost], int8: bytes | None
) -> dict[str, bytes]:
    """Return the files that describe a model to other programs, and the golden images."""
    recipe = predictor.recipe
    images = golden.golden_images(*golden.golden_size(recipe.preprocess, recipe.shape))
    files = {f"{golden.FOLDER}/{name}": content for name, content in images.items()}
    files[golden.ANSWERS] = json_bytes(
        golden.golden_answers(predictor, images, OnnxNetwork(int8) if int8 else None)
    )
    files["labels.json"] = json_bytes(_labels(recipe))
    files["preprocess.json"] = json_bytes(_preprocessing(recipe))
    if comparisons:
        files[PARITY] = json_bytes({"comparisons": [one.to_json() for one in comparisons]})
    return files


def _labels(recipe: Recipe) -> dict[str, Any]:
    """Return the classes, what each postprocessing component has learned, and thresholds."""
    states = zip(recipe.postprocess, recipe.postprocess_states, strict=False)
    return {
        "classes": recipe.classes,
        "ordered": recipe.ordered,
        "postprocess": [{**_described(component), "fitted": state} for component, state in states],
        "binary": to_plain(recipe.binary) if recipe.binary else None,
        "quality": _described(recipe.quality) | {"limits": to_plain(recipe.quality_limits)}
        if recipe.quality
        else None,
    }


def _preprocessing(recipe: Recipe) -> dict[str, Any]:
    """Return how a file becomes the input of the network, in words and numbers."""
    channels, height, width = recipe.shape
    return {
        "decode": {
            "orientation": "turned as EXIF says",
            "colours": "8-bit RGB; grey, palette and CMYK are converted; of 16 bits the upper 8",
            "transparent": "drawn on black",
            "frames": "the first",
            "jpeg": recipe.decode,
            "jpeg_at_least": recipe.min_decoded_size,
        },
        "steps": [_described(component) for component in recipe.preprocess],
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["batch", channels, height, width],
            "order": "image, channel (red, green, blue), row, column",
        },
        "inside_the_network": {
            "normalization": "(pixel / 255 - mean) / std",
            "mean": recipe.mean,
            "std": recipe.std,
            "views": recipe.tta,
        },
        "outputs": {
            OUTPUTS[0]: ["batch", len(recipe.classes)],
            OUTPUTS[1]: "the network's outputs before the loss makes probabilities of them",
        },
    }


def _described(component: Component) -> dict[str, Any]:
    """Return a component's settings, with the first line of its docstring."""
    summary = (type(component).__doc__ or "").strip().splitlines()[:1]
    return {**to_plain(component), "description": "".join(summary)}


def _manifest(run: Run, predictor: Predictor, files: Mapping[str, bytes]) -> Manifest:
    return Manifest(
        sightx=importlib.metadata.version("sightx"),
        id=predictor.model.id,
        experiment=str(run.environment.get("id", "")),
        data=str(run.data.get("id", "")),
        classes=predictor.recipe.classes,
        shape=predictor.recipe.shape,
        figures=read_figures(run, predictor.model.checkpoint),
        files={name: FileEntry.of(content) for name, content in sorted(files.items())},
    )


def _write(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write all files in one step, the manifest last, and return it."""
    files = {**files, model_folder.MANIFEST: json_bytes(manifest.model_dump(mode="json"))}
    size = sum(map(len, files.values()))
    with atomic.disk_errors(folder.absolute().parent, size, full_hint="free space"):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        atomic.require_free_space(folder.absolute().parent, size)
        with atomic.atomic_directory(folder.absolute()) as temporary:
            (temporary / golden.FOLDER).mkdir()
            for name, content in files.items():
                atomic.write(temporary / name, content)
    return manifest
