"""Contract tests for plugin authors."""

from __future__ import annotations

from sightx.testing.contract import check, contract
from sightx.testing.demands import Finding
from sightx.testing.worlds import history, images, predictions, table

__all__ = ["Finding", "check", "contract", "history", "images", "predictions", "table"]
