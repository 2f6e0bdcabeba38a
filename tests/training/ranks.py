"""What one of several processes does in test_distributed.py; it writes what it found to a file."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sightx.builtin import augment, losses
from sightx.distributed.collectives import SingleProcess, join_process_group
from sightx.records.events import Step
from sightx.training.state import State, broadcast_state
from sightx.training.trainer import Trainer

CPU = torch.device("cpu")


class Net(nn.Module):
    """A network with draws and with weights that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(108, 16), nn.Linear(16, 3)
        self.drop, self.unused = nn.Dropout(0.3), nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, 3)."""
        return self.head(self.drop(torch.relu(self.body(images.flatten(1)))))


class Always(nn.Module):
    """Dropout that evaluation does not end."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return (B, 3)."""
        return nn.functional.dropout(outputs, 0.5, training=True)


def normed() -> nn.Module:
    """A network with batch statistics."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3))


def digest(tensors: list[torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def trained(
    collectives: SingleProcess,
    make: Callable[[], nn.Module],
    world: Any,
    train: int = 60,
    **training: Any,
) -> dict[str, Any]:
    """Train on the little world of conftest.py; return what came of it."""
    torch.manual_seed(collectives.rank)  # other weights on each: the first one's count
    module = make()
    batch = {"batch_size": 14, "micro_batch_size": 3, **training}
    samples = world.samples.__wrapped__()
    samples.splits["train"] = np.arange(train)
    experiment = world.experiment.__wrapped__()(
        training=batch,
        loss=losses.InverseFrequencyCrossEntropy(),
        augment=(augment.Flip(), augment.Rotate(degrees=30.0)),
    )
    trainer = Trainer(experiment, samples, module, CPU, collectives)
    steps = [float(event.loss) for event in trainer.events() if isinstance(event, Step)]
    found: dict[str, Any] = {"losses": steps, "history": trainer.history.epochs}
    found["state"] = digest(list(module.state_dict().values()))
    scores = trainer.evaluator("validation")
    found["turns"] = list(scores)
    found["weights"] = {name: value.tolist() for name, value in module.named_parameters()}
    if collectives.is_main_process:
        predictions = scores.predictions(trainer.dataset.table)
        found["keys"], found["outputs"] = predictions.keys, predictions.outputs.tolist()
        found["loss"] = scores.loss
    return found


def evaluated(collectives: SingleProcess, world: Any) -> dict[str, Any]:
    """Predict 21 samples in batches of 4 with one and the same network, which draws (T08)."""
    torch.manual_seed(3)
    module = nn.Sequential(normed(), Always())
    torch.manual_seed(collectives.rank)
    experiment = world.experiment.__wrapped__()(training={"batch_size": 4, "micro_batch_size": 2})
    samples = world.samples.__wrapped__()
    samples.splits["validation"] = np.arange(60, 81)
    trainer = Trainer(experiment, samples, module, CPU, collectives)
    scores = trainer.evaluator("validation")
    turns = list(scores)
    if not collectives.is_main_process:
        return {"turns": turns}
    predictions = scores.predictions(trainer.dataset.table)
    bits = digest([torch.from_numpy(predictions.outputs), torch.tensor(scores.loss)])
    return {"turns": turns, "keys": predictions.keys, "bits": bits}


def talk(collectives: SingleProcess) -> dict[str, Any]:
    """Use everything that ranks say to one another."""
    here = torch.full((2, 3), float(collectives.rank), dtype=torch.bfloat16)
    flag = torch.tensor(collectives.rank == 0)
    collectives.broadcast_([here, flag])
    first = State({"w": torch.arange(3)}, {"0.m": torch.tensor(0.5)}, {"step": 7, "nan": [0.1]})
    heard = broadcast_state(collectives, first if collectives.is_main_process else None)
    collectives.barrier()
    own = collectives.local_positions(np.arange(7), 2)
    return {
        "sum": collectives.all_reduce_sum(torch.tensor([1.0, collectives.rank])).tolist(),
        "agree": collectives.all_reduce_max(15 if collectives.rank == 1 else 0),
        "say": collectives.broadcast_object(
            {"pi": 3.141592653589793, "text": "é" * (1 + collectives.rank)}
        ),
        "share": [here.tolist(), bool(flag)],
        "state": [heard.weights["w"].tolist(), float(heard.optimizer["0.m"]), heard.record],
        "own": own.tolist(),
        "idle": collectives.local_positions(np.arange(2), 2).tolist(),
        "turns": [
            list(collectives.local_micro_batches(7, 2)),
            list(collectives.local_micro_batches(2, 2)),
        ],
    }


def everything(folder: Path) -> dict[str, Any]:
    """Return what this process finds, alone or as one of several."""
    torch.set_num_threads(1)
    source = util.spec_from_file_location("world", Path(__file__).with_name("conftest.py"))
    assert source is not None
    assert source.loader is not None
    world = util.module_from_spec(source)
    source.loader.exec_module(world)
    with join_process_group(CPU, 60.0) as collectives:
        found = {
            "talk": talk(collectives),
            "plain": trained(collectives, Net, world, clip_grad_norm=0.5),
            "again": trained(collectives, normed, world, batch_size=20, micro_batch_size=5),
            "idle": trained(collectives, Net, world, train=21, batch_size=20, micro_batch_size=10),
            "evaluated": evaluated(collectives, world),
        }
        (folder / f"{collectives.world_size}-{collectives.rank}.json").write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    everything(Path(sys.argv[1]))
