from __future__ import annotations

import pytest

from sightx.records import split_called


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("TRAIN", "train"), ("training_set", "train"),
        ("Train Data", "train"), ("train-images", "train"), ("trainset", "train"),
        ("val", "validation"), ("Valid", "validation"), ("dev", "validation"),
        ("eval", "validation"), ("Validation_Set", "validation"),
        ("Test", "test"), ("TESTING", "test"), ("test_dataset", "test"), ("test_data_set", "test"),
        ("seg_train", "train"), ("images_val", "validation"), ("data-test", "test"),
        ("bullet_train", ""), ("", ""), ("set", ""), ("data", ""), ("images", ""), ("trains", ""),
        ("trained", ""), ("tested", ""), ("cat", ""),
    ],
)  # fmt: skip
def test_splits_are_known_by_their_usual_names(name, split):
    assert split_called(name) == split
