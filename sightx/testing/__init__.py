"""The contract kit: whether a component keeps what its kind promises, in one line of a test."""

from __future__ import annotations

from sightx.testing.contract import check, contract
from sightx.testing.demands import Finding
from sightx.testing.worlds import history, images, predictions, table

__all__ = ["Finding", "check", "contract", "history", "images", "predictions", "table"]
