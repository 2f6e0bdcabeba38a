"""Names of metrics that are nearly right; the codes of the checks are in test_spec.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightx.spec.load import examine

SPEC = """
name = "a"
[dataset]
use = "synthetic-fundus"
[model]
use = "simplenet"
"""


@pytest.mark.parametrize(
    ("monitor", "hint"),
    [
        ("val_loss", "did you mean 'validation/loss'?"),
        ("loss", "did you mean 'validation/loss'?"),
        ("val/acc", "did you mean 'validation/accuracy'?"),
        ("train_acc", "did you mean 'train/accuracy'?"),
        ("Kappa", "did you mean 'validation/qwk'?"),
        ("val_recall/mild", "did you mean 'validation/recall/mild'?"),
        ("validation/recall/midl", "did you mean 'validation/recall/mild'?"),
        ("validation/balanced-acuracy", "did you mean 'validation/balanced-accuracy'?"),
        (
            "validation/zq",
            "there are train/loss, train/accuracy, validation/loss, "
            "validation/accuracy, validation/balanced-accuracy, validation/precision, "
            "validation/recall, validation/f1, validation/qwk",
        ),
        ("val_auc", "a [[metric]] with use = \"auc\" computes 'validation/auc'"),
        ("validation/auc", 'a [[metric]] with use = "auc" computes it'),
    ],
)
def test_names_of_metrics_in_other_libraries(tmp_path: Path, monitor: str, hint: str) -> None:
    (tmp_path / "a.toml").write_text(SPEC)
    (problem,) = examine(tmp_path / "a.toml", [f"training.monitor={monitor}"]).problems
    assert problem.hint == hint


def test_the_metric_that_a_hint_names_makes_the_monitor_valid(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SPEC)
    sets = ["training.monitor=validation/auc", "metric=[{use='auc'}]"]
    assert examine(tmp_path / "a.toml", sets).problems == ()
