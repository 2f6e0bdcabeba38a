from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from sightx.evaluation.plots import (
    confusion_figure,
    curves_figure,
    plot_confusion_matrix,
    plot_curves,
)
from sightx.records.predictions import Predictions


def epochs(n):
    return [
        {
            "epoch": e,
            "train/loss": 2.0 / e,
            "validation/loss": 3.0 / e,
            "train/accuracy": 1 - 0.5 / e,
            "validation/accuracy": 1 - 0.6 / e,
            "validation/qwk": 1 - 0.9 / e,
            "lr": 1e-3 * 0.1 ** (e // 3),
        }
        for e in range(1, n + 1)
    ]


def predictions(labels, decisions, classes):
    n, none = len(labels), np.zeros((len(labels), len(classes)))
    return Predictions(
        tuple(map(str, range(n))), ("",) * n, np.array(labels), none, none, np.array(decisions),
        tuple(classes),
    )  # fmt: skip


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def test_curves_show_every_metric_and_the_best_epoch():
    records = epochs(6)
    loss, metrics, lr = curves_figure(records, monitor="validation/qwk", best=4).axes
    assert lines(loss)["train/loss"] == [record["train/loss"] for record in records]
    assert lines(loss)["validation/loss"] == [record["validation/loss"] for record in records]
    assert set(lines(metrics)) == {
        "train/accuracy", "validation/accuracy", "validation/qwk", "best: epoch 5",
        "validation/qwk 0.82",
    }  # fmt: skip
    star = metrics.lines[-1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (5, records[4]["validation/qwk"])
    assert list(lr.lines[0].get_ydata()) == [record["lr"] for record in records]
    assert lr.get_yscale() == "log"


def test_a_monitored_loss_is_marked_among_the_losses():
    loss, metrics, _ = curves_figure(epochs(3), monitor="validation/loss", best=2).axes
    assert "validation/loss 1" in lines(loss)
    assert not any("loss" in label for label in lines(metrics))


def test_without_learning_rates_there_is_no_panel_for_them():
    records = [{k: v for k, v in record.items() if k != "lr"} for record in epochs(3)]
    assert len(curves_figure(records, monitor="validation/accuracy", best=2).axes) == 2


def test_nonfinite_values_leave_a_gap_and_a_wide_range_is_logarithmic():
    records = epochs(4)
    records[1]["validation/loss"] = math.inf
    records[2]["train/loss"] = 1e5
    loss = curves_figure(records, monitor="validation/accuracy", best=None).axes[0]
    assert np.isnan(lines(loss)["validation/loss"]).tolist() == [False, True, False, False]
    assert loss.get_yscale() == "log"
    assert not any(label.startswith("best") for label in lines(loss))


def test_a_run_without_accuracy_says_so(tmp_path):
    axes = curves_figure([{"train/loss": 1.0}], monitor="validation/accuracy", best=None).axes
    assert [text.get_text() for text in axes[1].texts] == ["none recorded"]
    plot_curves([{"train/loss": 1.0}], tmp_path / "c.png", monitor="validation/accuracy", best=None)


@pytest.mark.parametrize("n", [1, 200])
def test_epoch_ticks_are_integers_within_the_axis(n):
    loss = curves_figure(epochs(n), monitor="validation/qwk", best=n - 1).axes[0]
    ticks = [tick for tick in loss.get_xticks() if loss.get_xlim()[0] <= tick <= loss.get_xlim()[1]]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)
    assert loss.get_xlim()[0] < 1 <= n < loss.get_xlim()[1]


def test_equal_figures_are_equal_files_without_metadata(tmp_path):
    for name in ("one", "two"):
        plot_curves(epochs(3), tmp_path / "new" / f"{name}.png", monitor="validation/qwk", best=2)
    first, second = (tmp_path / "new" / f"{name}.png" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        image.load()
        assert set(image.info) == {"dpi"}
        assert round(image.info["dpi"][0]) == 120


def test_confusion_matrix_is_normalised_over_each_true_class():
    given = predictions([0, 0, 0, 0, 1, -1], [0, 0, 0, 1, 1, 0], ["a", "b", "never"])
    axes = confusion_figure(given, title="test").axes[0]
    shown = axes.images[0].get_array()
    assert shown[:2].tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]
    assert shown.mask[2].all()  # no samples: grey
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "3\n75.0%", (1, 0): "1\n25.0%", (1, 1): "1\n100.0%"}
    assert axes.get_title() == "test: 5 samples"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a (4)", "b (1)", "never (0)"]


def test_text_has_contrast_with_its_cell():
    labels = np.repeat(np.arange(20), 20)
    decisions = [int(k % 20 >= label) for k, label in enumerate(labels)]  # shares 0.05, 0.1, ...
    axes = confusion_figure(predictions(labels, decisions, [str(k) for k in range(20)])).axes[0]
    image = axes.images[0]
    assert len(axes.texts) == 39
    for text in axes.texts:
        column, row = text.get_position()
        cell = image.cmap(image.norm(image.get_array()[row, column]))[:3]
        assert contrast(to_rgb(text.get_color()), cell) > 4.5  # WCAG's AA


def contrast(one, other):
    """The ratio of relative luminances, as WCAG defines it."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("classes", "texts"), [(2, 2), (20, 20), (21, 0), (100, 0)])
def test_many_classes_are_drawn_without_text(classes, texts, tmp_path):
    labels = list(range(classes))
    given = predictions(labels, labels, [f"a rather long class name {k}" for k in labels])
    axes = confusion_figure(given).axes[0]
    assert len(axes.texts) == texts
    plot_confusion_matrix(given, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 2500


def test_class_names_are_not_parsed_as_mathematics(tmp_path):
    given = predictions([0, 1], [0, 1], ["$x_$ and $\\nothing$", "50 % $"])
    plot_confusion_matrix(given, tmp_path / "confusion.png", title="$\\no$")
    names = [text.get_text() for text in confusion_figure(given).axes[0].get_xticklabels()]
    assert names == ["$x_$ and $\\nothing$", "50 % $"]


def test_threads_can_draw_at_the_same_time(tmp_path):
    def draw(k):
        plot_curves(epochs(3), tmp_path / f"{k}.png", monitor="validation/qwk", best=2)
        return (tmp_path / f"{k}.png").read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(draw, range(3)))) == 1


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, sightx.evaluation.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_are_drawn_with_an_installed_font_or_as_the_number_of_the_class(tmp_path):
    classes = ("plain", "caf\u00e9", "\U000e0fff")  # no font has the last character
    figure = confusion_figure(predictions([0, 1, 2], [0, 1, 2], classes))
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["plain", "caf\u00e9", "class 2"]


def test_missing_characters_give_no_warning(tmp_path, recwarn):
    predicted = predictions([0, 1], [0, 1], ("\u72ac", "\u732b"))
    plot_confusion_matrix(predicted, tmp_path / "plot.png", title="\U000e0fff")
    assert not recwarn.list
