"""Synthetic photographs of the retina: for a first run, for tests, for teaching."""

from __future__ import annotations

from .dataset import SyntheticFundus

__all__ = ["SyntheticFundus"]
