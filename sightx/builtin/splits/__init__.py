"""Assign samples to train, validation and test; each split is a pure function of the table."""

from __future__ import annotations

from .components import Given, Grouped, Listed, Stratified

__all__ = ["Given", "Grouped", "Listed", "Stratified"]
