"""The geometry of the retina: coordinates and vessels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightx.builtin.datasets.synthetic_fundus.anatomy import View, draw_anatomy, stream

VIEW = View(64, (31.0, 33.0), 30.0, mirror=1, tilt=(0.8, 0.6), gaze=(0.05, -0.02))


@pytest.mark.parametrize("mirror", [1, -1])
def test_pixels_and_retina_coordinates_are_inverse(mirror: int) -> None:
    view = replace(VIEW, mirror=mirror)
    points = np.stack(view.retina(), axis=-1).astype(float)
    grid = np.arange(64) + 0.5
    expected = np.stack(np.broadcast_arrays(grid, grid[:, None]), axis=-1)
    assert view.pixels(points) == pytest.approx(expected, abs=1e-3)


def test_vessels_start_at_the_optic_disc() -> None:
    anatomy = draw_anatomy(stream("test", 1))
    trunks = anatomy.tree.veins[0]
    assert np.linalg.norm(trunks.points[:, 0] - anatomy.disc, axis=1).max() < anatomy.disc_radius
    coverage = anatomy.tree.coverage(VIEW)
    assert coverage.shape == (64, 64)
    assert (coverage.min(), 0 < coverage.mean() < 0.5, coverage.max() <= 1) == (0, True, True)
