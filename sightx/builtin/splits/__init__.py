"""Who trains and who measures: each split is a pure function of the table and the settings."""

from __future__ import annotations

from .fresh import Given, Grouped, Stratified
from .listed import Listed

__all__ = ["Given", "Grouped", "Listed", "Stratified"]
