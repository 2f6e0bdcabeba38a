"""Rules between the parts of an experiment, by the stage at which they can be decided."""

from __future__ import annotations

from . import data, spec

CHECKS = [*spec.CHECKS, *data.CHECKS]
