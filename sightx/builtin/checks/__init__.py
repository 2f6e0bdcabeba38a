"""The checks that ship with SightX, by the stage that they need."""

from __future__ import annotations

from . import data, evaluation, monitor, schedule, spec

CHECKS = [*monitor.CHECKS, *spec.CHECKS, *schedule.CHECKS, *data.CHECKS, *evaluation.CHECKS]
