"""One server for the tests of this folder that do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sightx import Predictor, Run

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
def image(data: Path) -> bytes:
    return (data / "test" / "light" / "0.png").read_bytes()
