"""Plots of a run: curves over the epochs, and the confusion matrix.

Figures are made without pyplot, so that they work in threads and on machines without a display.
Equal inputs give equal files.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sightx.records.predictions import Predictions

DPI = 120
FONT = "DejaVu Sans"  # comes with matplotlib
MAX_CLASSES_WITH_TEXT = 20  # with more classes, cells are too small for text
MAX_CLASSES_WITH_NAMES = 100  # with more classes, only some are named
WHITE_TEXT_ABOVE = 0.71  # share of a true class from which white text has the better contrast
LOG_SCALE_ABOVE = 50.0  # ratio of highest to lowest value from which the scale is logarithmic
MAX_EPOCHS_WITH_MARKERS = 30
# Colours of Okabe and Ito, which colour-blind readers can tell apart.
STYLES = {"train": ("#0072B2", "o"), "validation": ("#D55E00", "s")}
OTHER_STYLE = ("#009E73", "^")

Epochs = Sequence[Mapping[str, float]]
"""One mapping per epoch: `epoch`, `lr` and metrics such as `validation/loss`."""


def plot_curves(epochs: Epochs, path: Path, *, monitor: str, best: int | None) -> None:
    """Write the figure of `curves_figure` as a PNG."""
    _save(curves_figure(epochs, monitor=monitor, best=best), path)


def plot_confusion_matrix(predictions: Predictions, path: Path, *, title: str = "") -> None:
    """Write the figure of `confusion_figure` as a PNG."""
    _save(confusion_figure(predictions, title=title), path)


def curves_figure(epochs: Epochs, *, monitor: str, best: int | None) -> Figure:
    """Draw losses, accuracies with the monitored metric, and the learning rate over the epochs.

    `epochs` has at least one epoch; `best` is the position of the one to mark, or None.
    """
    figure = _new_figure(10.0, 4.6)
    has_lr = any("lr" in epoch for epoch in epochs)
    grid = figure.add_gridspec(1 + has_lr, 2, height_ratios=[5, 1][: 1 + has_lr])
    for column, (title, names) in enumerate(_panels(monitor)):
        axes = figure.add_subplot(grid[0, column])
        _draw_metrics(axes, epochs, names, monitor=monitor, best=best)
        axes.set_title(title)
        if not has_lr:
            axes.set_xlabel("epoch")
    if has_lr:
        _draw_learning_rate(figure.add_subplot(grid[1, :]), epochs)
    return figure


def confusion_figure(predictions: Predictions, *, title: str = "") -> Figure:
    """Draw the confusion matrix, normalised over each true class.

    The row of a class without samples is grey.
    """
    counts = predictions.confusion()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    size = float(np.clip(0.85 * len(counts), 3.2, 14.0))  # inches
    figure = _new_figure(size + 2.6, size + 1.4)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=_colormap(), vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.045)
    axes.set_title(f"{title or 'Confusion'}: {int(totals.sum()):,} samples", parse_math=False)
    _label_classes(axes, predictions.classes, totals.ravel(), size)
    if len(counts) <= MAX_CLASSES_WITH_TEXT:
        _label_cells(axes, counts, shares)
    return figure


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG without metadata, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore"):  # of glyphs that are drawn as boxes
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _panels(monitor: str) -> list[tuple[str, list[str]]]:
    """Return title and metrics of each panel; one of them shows the monitored metric."""
    losses = ["train/loss", "validation/loss"]
    accuracies = ["train/accuracy", "validation/accuracy"]
    if monitor in losses + accuracies:
        return [("Loss", losses), ("Accuracy", accuracies)]
    return [("Loss", losses), (f"Accuracy and {monitor}", [*accuracies, monitor])]


def _draw_metrics(
    axes: Axes, epochs: Epochs, names: Sequence[str], *, monitor: str, best: int | None
) -> None:
    """Draw some metrics over the epochs, and mark the best epoch."""
    x = _epoch_numbers(epochs)
    columns = {name: _column(epochs, name) for name in names}
    drawn = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    for name, values in drawn.items():
        colour, marker = _style(name)
        marker = marker if len(x) <= MAX_EPOCHS_WITH_MARKERS else ""
        axes.plot(x, values, color=colour, marker=marker, markersize=4, label=name)
    if best is not None:
        axes.axvline(x[best], color="0.45", linestyle=":", zorder=0, label=f"best: epoch {x[best]}")
        if monitor in drawn:
            value = drawn[monitor][best]
            label = f"{monitor} {value:.4g}"
            axes.plot(x[best], value, "*", color="black", markersize=11, label=label)
    _set_y_scale(axes, [value for values in drawn.values() for value in values])
    _set_x_axis(axes, x)
    axes.grid(alpha=0.25)
    if drawn:
        axes.legend(fontsize=8, framealpha=0.8)
    else:
        axes.text(0.5, 0.5, "none recorded", ha="center", transform=axes.transAxes)


def _draw_learning_rate(axes: Axes, epochs: Epochs) -> None:
    x, lrs = _epoch_numbers(epochs), _column(epochs, "lr")
    marker = "." if len(x) <= MAX_EPOCHS_WITH_MARKERS else ""
    axes.plot(x, lrs, color="0.3", drawstyle="steps-mid", marker=marker)
    _set_y_scale(axes, lrs)
    _set_x_axis(axes, x)
    axes.set_ylabel("learning rate", fontsize=8)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)


def _style(name: str) -> tuple[str, str]:
    """Return colour and marker: by split for loss and accuracy, one style for other metrics."""
    split, _, metric = name.partition("/")
    return STYLES.get(split, OTHER_STYLE) if metric in ("loss", "accuracy") else OTHER_STYLE


def _epoch_numbers(epochs: Epochs) -> list[int]:
    return [int(epoch.get("epoch", position + 1)) for position, epoch in enumerate(epochs)]


def _column(epochs: Epochs, name: str) -> np.ndarray[Any, Any]:
    """Return a metric per epoch, (epochs,); NaN for an epoch without a finite value."""
    values = np.array([epoch.get(name, math.nan) for epoch in epochs], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _set_y_scale(axes: Axes, values: Sequence[float] | np.ndarray[Any, Any]) -> None:
    """Use a logarithmic scale if the values are positive and span orders of magnitude."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > LOG_SCALE_ABOVE * min(finite):
        axes.set_yscale("log")


def _set_x_axis(axes: Axes, x: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    margin = max(0.5, 0.02 * (x[-1] - x[0]))
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _colormap() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(bad="0.85")


def _label_classes(
    axes: Axes, classes: Sequence[str], totals: np.ndarray[Any, Any], size: float
) -> None:
    """Write class names on both axes, with the number of samples per true class."""
    step = math.ceil(len(classes) / MAX_CLASSES_WITH_NAMES)
    font_size = float(np.clip(50 * size / len(classes), 5.0, 10.0))
    ticks = range(0, len(classes), step)
    names, fonts = _displayed_names(classes)
    names = [_shorten(names[tick]) for tick in ticks]
    counted = [f"{name} ({totals[tick]:,})" for name, tick in zip(names, ticks, strict=True)]
    style: dict[str, Any] = {"fontsize": font_size, "fontfamily": fonts, "parse_math": False}
    axes.set_xticks(ticks, names, **style)
    axes.set_yticks(ticks, counted, **style)
    if len(classes) > MAX_CLASSES_WITH_TEXT:
        axes.tick_params(axis="x", rotation=90)
    elif max(map(len, names)) > 8:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (samples)")


def _displayed_names(classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the class names, and the installed fonts that have all of their characters.

    A name with a character that no installed font has is replaced by the number of its class.
    """
    fonts, missing = [FONT], set("".join(classes)) - _characters(FONT)
    for font in _other_fonts() if missing else ():
        if covered := missing & _characters(font):
            fonts.append(font)
            missing -= covered
    names = [
        f"class {number}" if missing & set(name) else name for number, name in enumerate(classes)
    ]
    return names, fonts


def _other_fonts() -> list[str]:
    """Return the families of all other installed fonts, but those that draw boxes."""
    from matplotlib.font_manager import fontManager

    names = {entry.name for entry in fontManager.ttflist} - {FONT}
    return sorted(name for name in names if "Last Resort" not in name)


def _characters(font: str) -> set[str]:
    """Return the characters that a font family can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return set(map(chr, get_font(findfont(FontProperties(family=[font]))).get_charmap()))


def _shorten(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _label_cells(axes: Axes, counts: np.ndarray[Any, Any], shares: np.ndarray[Any, Any]) -> None:
    """Write count and percentage into each cell that has samples."""
    font_size = 9.0 if len(counts) <= 12 else 7.0
    for true, decided in np.argwhere(counts):
        share = shares[true, decided]
        text = f"{counts[true, decided]:,}\n{share:.1%}"
        colour = "white" if share > WHITE_TEXT_ABOVE else "black"
        axes.text(decided, true, text, ha="center", va="center", fontsize=font_size, color=colour)
