from __future__ import annotations

import numpy as np
import pytest

from sightx.audit.quality import measure_quality
from sightx.builtin.quality import Fundus


def test_the_measures_are_those_of_the_audit_for_colour_and_grey() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    expected = measure_quality(image)._asdict()
    measures = Fundus().measure(image)
    assert measures == {name: expected[name] for name in Fundus().values()}
    assert Fundus().measure(image[..., :1]) == Fundus().measure(image[..., [0, 0, 0]])
    assert Fundus().measure(np.dstack([image, image])) == measures


def test_a_darker_a_smoother_and_a_smaller_disc_are_worse() -> None:
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    texture = 150 + 60 * np.sin(60 * x) * np.sin(60 * y)

    def disc(radius: float, pixels: np.ndarray) -> dict[str, float]:
        image = np.where(np.hypot(x, y) < radius, pixels, 0).clip(0, 255).astype(np.uint8)
        return dict(Fundus().measure(np.repeat(image[..., None], 3, axis=2)))

    good, better = disc(0.9, texture), Fundus().values()
    for name, worse in {
        "brightness": disc(0.9, texture / 4),
        "sharpness": disc(0.9, 150 + 0 * texture),
        "disc": disc(0.3, texture),
        "clipped": disc(0.9, texture * 1.5),
        "unevenness": disc(0.9, texture * (0.6 + 0.4 * x)),
    }.items():
        sign = 1 if better[name] == "max" else -1
        assert sign * worse[name] < sign * good[name], name
    assert good["disc"] == pytest.approx(np.pi * 0.9**2 / 4, abs=0.02)
