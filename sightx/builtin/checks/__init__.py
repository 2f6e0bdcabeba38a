"""The checks that ship with SightX, by the stage that they need."""

from __future__ import annotations

from . import data, evaluation, spec

CHECKS = [*spec.CHECKS, *data.CHECKS, *evaluation.CHECKS]
