"""Where a network looked: Grad-CAM (R. R. Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.errors import Problem, SpecError
from sightx.inference.recipe import Recipe
from sightx.registry.components import call_declared
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor

_COLOURS = np.array(
    [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32
)
"""The map `inferno` of matplotlib at five points, from no influence to the greatest."""
_OPACITY = 0.6  # of the greatest influence


def last_spatial_layer(module: nn.Module, image: Tensor) -> nn.Module:
    """Return the last layer whose output has several pixels: its shape is (B, C, h, w), h w > 1.

    `image` is any normalised image, (1, C, H, W). Raises SpecError if there is no such layer.
    """
    layers: list[nn.Module] = []

    def remember(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            layers.append(layer)

    hooks = [layer.register_forward_hook(remember) for layer in module.modules()]
    try:
        with torch.no_grad():
            module(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not layers:
        message = "the network has no layer with an output (B, C, h, w) of several pixels"
        hint = "leave out --explain; Grad-CAM needs a convolutional network in torch"
        raise SpecError(Problem("cannot-explain", message, hint, "model"))
    return layers[-1]


class Explanation(NamedTuple):
    """Where the network looked, which is not where a disease is.

    Attributes:
        heat: How much each pixel raised the score, float32 (H, W), 0 to 1.
        overlay: The preprocessed image with the heat drawn over it, uint8 (H, W, 3).
    """

    heat: np.ndarray[Any, Any]
    overlay: np.ndarray[Any, Any]


def grad_cam(
    recipe: Recipe, module: nn.Module, layer: nn.Module, images: Tensor, decisions: Tensor
) -> Tensor:
    """Return what raised the score of each image, float32 (B, H, W), 0 to 1.

    The score is the expected grade for ordered classes, and the output or the log-probability of
    the predicted class for others. The map is the sum of the layer's channels, each weighted by the
    mean gradient of the score; negative values become 0.

    Args:
        recipe: Says how outputs become probabilities and decisions.
        module: The network, in evaluation mode.
        layer: A part of it with outputs (B, C, h, w).
        images: Normalised images, float32 (B, C, H, W).
        decisions: The predicted class of each image, int64 (B,).
    """
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda *call: outputs.append(call[-1]))
    try:
        with torch.enable_grad(), autocast(images.device, recipe.precision):
            # The images need a gradient where all weights are frozen.
            logits = module(images.detach().requires_grad_())
    finally:
        hook.remove()
    with torch.enable_grad():
        score = _scores(recipe, logits.float(), decisions).sum()
    (gradient,) = torch.autograd.grad(score, outputs[-1])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    maps = (weights * outputs[-1].detach()).sum(dim=1, keepdim=True).relu().float()
    size = (images.shape[-2], images.shape[-1])
    maps = nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
    greatest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / greatest.clamp_min(torch.finfo(maps.dtype).tiny)


def _scores(recipe: Recipe, logits: Tensor, decisions: Tensor) -> Tensor:
    """Return the number (B,) of each image that its map explains."""
    classes = len(recipe.classes)
    probabilities: Tensor = call_declared(recipe.loss.probabilities, logits, classes=classes)
    if recipe.ordered:
        grades = torch.arange(classes, dtype=probabilities.dtype, device=logits.device)
        return probabilities @ grades
    values = logits if logits.shape == probabilities.shape else probabilities.log()
    return values.gather(1, decisions[:, None])[:, 0]


def draw(pixels: Tensor, heat: Tensor) -> Explanation:
    """Draw a map (H, W), 0 to 1, over the preprocessed image, uint8 (C, H, W), that it explains."""
    values = heat.cpu().numpy()
    positions = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(values, positions, column) for column in _COLOURS.T], axis=-1)
    image = pixels[:3].permute(1, 2, 0).cpu().numpy().astype(np.float32)  # grey: (H, W, 1)
    opacity = _OPACITY * values[..., None]
    overlay = np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)
    return Explanation(values, overlay)
