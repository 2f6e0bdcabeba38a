"""What `GET /v1/model` says: the model, its classes, its card, and the limits of the server."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sightx.export.model import CARD
from sightx.export.model_card import model_card, read_figures
from sightx.inference import model_folder
from sightx.inference.model_folder import Figure
from sightx.inference.prediction import ModelId
from sightx.runs.directory import Run
from sightx.serving.service import About, Service

NOTICE = "Not a diagnosis, and not a medical device."


class ServerLimits(BaseModel):
    """What a request may be."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_bytes: int
    """Largest body."""
    max_pixels: int
    """Most pixels of an image."""
    formats: tuple[str, ...]
    """Media types of images."""
    max_queue: int
    """Most images that wait or are computed; more get 503."""
    timeout: float
    """Seconds until a request gets 503."""


class ModelInfo(BaseModel):
    """The model, and what its server can do."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: ModelId
    """Its name, as in every answer."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the probabilities."""
    ordered: bool
    """Whether the classes are grades; pairs of eyes need grades."""
    can_explain: bool
    """Whether /v1/explain works for this model."""
    batch_sizes: tuple[int, ...]
    """Images that may be computed at once; with 1 alone, no answer depends on other images."""
    limits: ServerLimits
    sightx: str
    """Version of SightX."""
    judges_quality: bool
    """Whether answers say how good an image is; without it, every image gets a grade."""
    figures: tuple[Figure, ...]
    """Its final metrics on its own data, which are not those of another camera or clinic."""
    card: str
    """The model card, as Markdown."""
    notice: str = NOTICE
    """To be shown wherever a grade is shown."""


def model_info(service: Service) -> ModelInfo:
    """Return what the server says of a model whose network is warm."""
    recipe = service.predictor.recipe
    return ModelInfo(
        model=service.predictor.model,
        classes=recipe.classes,
        ordered=recipe.ordered,
        can_explain=service.batcher.can_explain,
        batch_sizes=service.batcher.sizes,
        limits=ServerLimits.model_validate(service.settings, from_attributes=True),
        sightx=importlib.metadata.version("sightx"),
        judges_quality=recipe.quality is not None,
        figures=service.about.figures,
        card=service.about.card,
    )


def read_about(folder: Path, model: ModelId) -> About:
    """Return the card and the metrics of an exported model, or of a checkpoint's directory.

    Raises RunError for an exported model that is damaged.
    """
    if model_folder.is_model_folder(folder):
        manifest = model_folder.read_manifest(folder)
        text, figures = model_folder.read_file(folder, manifest, CARD).decode(), manifest.figures
    else:
        run = Run(folder.absolute().parents[1])
        text, figures = model_card(run, model, None), read_figures(run, model.checkpoint)
    return About(text.partition("\n---\n")[2].strip(), figures)  # without the front matter
