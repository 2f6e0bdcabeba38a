"""Pictures of a run: curves over the epochs, and where decisions go.

Figures are made without pyplot, so that threads and machines without a screen are safe; the same
figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sightx.records.predictions import Predictions

DPI = 120
TEXT_UP_TO = 20  # classes; with more, cells are too small for text
NAMES_UP_TO = 100  # classes; with more, only some are named
DARK = 0.71  # share of a true class, from where on white text reads better than black
WIDE = 50.0  # highest over lowest value, from where on a scale is logarithmic
# Okabe and Ito's colours, which colour-blind readers tell apart.
STYLES = {"train": ("#0072B2", "o"), "validation": ("#D55E00", "s")}
OTHER = ("#009E73", "^")

Epochs = Sequence[Mapping[str, float]]


def curves(epochs: Epochs, path: Path, *, monitor: str, best: int | None) -> None:
    """Write the picture of `curves_figure` as a PNG."""
    _write(curves_figure(epochs, monitor=monitor, best=best), path)


def confusion(predictions: Predictions, path: Path, *, title: str = "") -> None:
    """Write the picture of `confusion_figure` as a PNG."""
    _write(confusion_figure(predictions, title=title), path)


def curves_figure(epochs: Epochs, *, monitor: str, best: int | None) -> Figure:
    """Draw losses, accuracies with the monitored figure, and the learning rate over the epochs.

    `best` is the position in `epochs` that is marked as the best; there is at least one epoch.
    """
    figure = _figure(10.0, 4.6)
    strip = any("lr" in epoch for epoch in epochs)
    grid = figure.add_gridspec(1 + strip, 2, height_ratios=[5, 1][: 1 + strip])
    for column, (title, names) in enumerate(_panels(monitor)):
        axes = figure.add_subplot(grid[0, column])
        _panel(axes, epochs, names, monitor=monitor, best=best)
        axes.set_title(title)
        if not strip:
            axes.set_xlabel("epoch")
    if strip:
        _rate_strip(figure.add_subplot(grid[1, :]), epochs)
    return figure


def confusion_figure(predictions: Predictions, *, title: str = "") -> Figure:
    """Draw which classes are taken for which, as shares of each true class.

    A class without samples is grey.
    """
    counts = predictions.confusion()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    side = float(np.clip(0.85 * len(counts), 3.2, 14.0))
    figure = _figure(side + 2.6, side + 1.4)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=_blues(), vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.045)
    axes.set_title(f"{title or 'Confusion'}: {int(totals.sum()):,} samples", parse_math=False)
    _name_classes(axes, predictions.classes, totals.ravel(), side)
    if len(counts) <= TEXT_UP_TO:
        _write_cells(axes, counts, shares)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: Path) -> None:
    """Write a PNG that holds nothing but the picture, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _panels(monitor: str) -> list[tuple[str, list[str]]]:
    """Return title and figures of each panel; the monitored figure is in one of them."""
    losses = ["train/loss", "validation/loss"]
    figures = ["train/accuracy", "validation/accuracy"]
    if monitor in losses + figures:
        return [("Loss", losses), ("Accuracy", figures)]
    return [("Loss", losses), (f"Accuracy and {monitor}", [*figures, monitor])]


def _panel(
    axes: Axes, epochs: Epochs, names: Sequence[str], *, monitor: str, best: int | None
) -> None:
    """Draw some figures over the epochs, and mark the best epoch."""
    x = _numbers(epochs)
    drawn = {name: values for name in names if np.isfinite(values := _column(epochs, name)).any()}
    for name, values in drawn.items():
        colour, marker = _style(name)
        marker = marker if len(x) <= 30 else ""
        axes.plot(x, values, color=colour, marker=marker, markersize=4, label=name)
    if best is not None:
        axes.axvline(x[best], color="0.45", linestyle=":", zorder=0, label=f"best: epoch {x[best]}")
        if monitor in drawn:
            value = drawn[monitor][best]
            label = f"{monitor} {value:.4g}"
            axes.plot(x[best], value, "*", color="black", markersize=11, label=label)
    _scale(axes, [value for values in drawn.values() for value in values])
    _epoch_axis(axes, x)
    axes.grid(alpha=0.25)
    if drawn:
        axes.legend(fontsize=8, framealpha=0.8)
    else:
        axes.text(0.5, 0.5, "none recorded", ha="center", transform=axes.transAxes)


def _rate_strip(axes: Axes, epochs: Epochs) -> None:
    x, rates = _numbers(epochs), _column(epochs, "lr")
    axes.plot(x, rates, color="0.3", drawstyle="steps-mid", marker="." if len(x) <= 30 else "")
    _scale(axes, rates)
    _epoch_axis(axes, x)
    axes.set_ylabel("learning rate", fontsize=8)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)


def _style(name: str) -> tuple[str, str]:
    """Return colour and marker: by the side for losses and accuracies, apart for other figures."""
    side, _, figure = name.partition("/")
    return STYLES.get(side, OTHER) if figure in ("loss", "accuracy") else OTHER


def _numbers(epochs: Epochs) -> list[int]:
    return [int(epoch.get("epoch", position + 1)) for position, epoch in enumerate(epochs)]


def _column(epochs: Epochs, name: str) -> np.ndarray[Any, Any]:
    """Return one figure over the epochs, NaN where there was none or it was not finite."""
    values = np.array([epoch.get(name, math.nan) for epoch in epochs], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _scale(axes: Axes, values: Sequence[float] | np.ndarray[Any, Any]) -> None:
    """Make the scale logarithmic where positive values are far apart."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > WIDE * min(finite):
        axes.set_yscale("log")


def _epoch_axis(axes: Axes, x: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    margin = max(0.5, 0.02 * (x[-1] - x[0]))
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _blues() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(bad="0.85")


def _name_classes(
    axes: Axes, classes: Sequence[str], totals: np.ndarray[Any, Any], side: float
) -> None:
    """Write class names on both axes, with the number of samples on the true one."""
    every = math.ceil(len(classes) / NAMES_UP_TO)
    size = float(np.clip(50 * side / len(classes), 5.0, 10.0))
    ticks = range(0, len(classes), every)
    names = [_short(classes[tick]) for tick in ticks]
    counted = [f"{name} ({totals[tick]:,})" for name, tick in zip(names, ticks, strict=True)]
    axes.set_xticks(ticks, names, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, counted, fontsize=size, parse_math=False)
    if len(classes) > TEXT_UP_TO:
        axes.tick_params(axis="x", rotation=90)
    elif max(map(len, names)) > 8:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("decided class")
    axes.set_ylabel("true class (samples)")


def _short(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _write_cells(axes: Axes, counts: np.ndarray[Any, Any], shares: np.ndarray[Any, Any]) -> None:
    """Write count and percentage into each cell that has samples."""
    size = 9.0 if len(counts) <= 12 else 7.0
    for true, decided in np.argwhere(counts):
        share = shares[true, decided]
        text = f"{counts[true, decided]:,}\n{share:.1%}"
        colour = "white" if share > DARK else "black"
        axes.text(decided, true, text, ha="center", va="center", fontsize=size, color=colour)
