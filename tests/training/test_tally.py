from __future__ import annotations

import torch

from sightx.builtin.losses import CrossEntropy
from sightx.training.objective import Objective
from sightx.training.tally import Tally


def test_all_right_answers_are_counted_once_whenever_asked() -> None:
    tally = Tally(Objective(CrossEntropy(), (1, 1, 1), torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    found = expected = 0
    for step in range(100):
        outputs = torch.randn(5 if step % 3 else 2, 3, generator=generator, requires_grad=True)
        targets = torch.randint(3, (len(outputs),), generator=generator)
        expected += int((outputs.argmax(1) == targets).sum())
        found += int(tally.add(outputs, targets))
        if step in (10, 50):
            found += int(tally.take())
            assert found == expected
    assert 0 < found < expected  # some are still to count
    found += int(tally.take())
    assert found == expected
    assert int(tally.take()) == 0
