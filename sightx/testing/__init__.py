"""Contract tests for plugin authors, and small data to test components with."""

from __future__ import annotations

from sightx.testing.assertions import CheckResult
from sightx.testing.contract import check, contract
from sightx.testing.fixtures import history, images, predictions, table

__all__ = ["CheckResult", "check", "contract", "history", "images", "predictions", "table"]
