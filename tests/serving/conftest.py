"""One server for the tests of this folder that do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sightx import Predictor, Run
from sightx.builtin.quality import Fundus
from sightx.inference.quality import QualityLimits

if TYPE_CHECKING:
    from support.serving import TestServer


@pytest.fixture(scope="session")
def predictor(trained: Run) -> Predictor:
    return Predictor.load(trained.directory, "cpu")


@pytest.fixture(scope="session")
def server(predictor: Predictor) -> Iterator[TestServer]:
    """A server with one image per batch, so that its answers are those of `predict` to the bit."""
    from support.serving import running

    with running(predictor, max_batch=1, hosts=frozenset({"127.0.0.1"})) as server:
        yield server


@pytest.fixture(scope="session")
def judge(predictor: Predictor) -> Predictor:
    """A predictor for which every image is poor, and a dark one ungradable."""
    never = {"max": -1.0, "min": 9.0}  # beyond which no measure is
    limits = {
        name: QualityLimits(poor=never[better], ungradable=never[better])
        for name, better in Fundus().values().items()
    }
    limits["brightness"] = QualityLimits(poor=2, ungradable=0.5)
    recipe = predictor.recipe.model_copy(update={"quality": Fundus(), "quality_limits": limits})
    return Predictor(recipe, predictor.module, predictor.device, predictor.model)


@pytest.fixture(scope="session")
def image(data: Path) -> bytes:
    return (data / "test" / "light" / "0.png").read_bytes()
