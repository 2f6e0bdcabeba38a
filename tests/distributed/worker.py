"""One process of test_collectives.py: it writes its results to a file.

python worker.py FOLDER, alone or under torchrun, with tests/ on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightx.builtin import augment, averages, losses, optimizers, schedulers
from sightx.distributed.collectives import Collectives, join_process_group
from sightx.plugin import ParamGroup
from sightx.spec.experiment import Evaluation, Tta
from sightx.training.state import State, broadcast_state
from support.training import (
    CPU,
    AlwaysDropout,
    make_dataset,
    make_experiment,
    make_trainer,
    train,
)


class Net(nn.Module):
    """A network with dropout, and with parameters that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(108, 16), nn.Linear(16, 3)
        self.drop, self.unused = nn.Dropout(0.3), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 3)."""
        return self.head(self.drop(torch.relu(self.body(images.flatten(1)))))


RECIPE: dict[str, Any] = {
    "optimizer": optimizers.Sam(
        lr=0.1, base=optimizers.Sgd(momentum=0.9), group=(ParamGroup(match=("head",), lr=0.2),)
    ),
    "scheduler": schedulers.GradualUnfreezing(),
    "loss": losses.SampleWeighted(base=losses.NoiseAdaptation(), column="weight"),
}


def normed() -> nn.Module:
    """Return a network with batch statistics."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3))


def digest(tensors: list[Tensor]) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def train_network(
    collectives: Collectives,
    build: Callable[[], nn.Module],
    samples: int = 60,
    parts: dict[str, Any] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Train on `samples` images, and evaluate; `parts` replace those of the experiment."""
    torch.manual_seed(collectives.rank)  # each rank has other weights: those of rank 0 count
    module, dataset = build(), make_dataset()
    dataset.splits["train"] = np.arange(samples)
    defaults: dict[str, Any] = {
        "loss": losses.InverseFrequencyCrossEntropy(),
        "augment": (augment.Flip(), augment.Rotate(degrees=30.0)),
        "average": averages.Ema(),
    }
    training = {"batch_size": 14, "micro_batch_size": 3, **training}
    experiment = make_experiment(training=training, **(defaults | (parts or {})))
    trainer = make_trainer(experiment, dataset, module=module, collectives=collectives)
    step_losses, _ = train(trainer)
    evaluator = trainer.evaluator("validation")
    results: dict[str, Any] = {
        "losses": step_losses,
        "history": [dict(epoch) for epoch in trainer.history.epochs],
        "state": digest(list(module.state_dict().values())),
        "average": {name: value.tolist() for name, value in trainer.state().weights.items()},
        "progress": list(evaluator),
        "loss weights": [value.tolist() for value in trainer.state().loss.values()],
        "weights": {name: value.tolist() for name, value in module.named_parameters()},
    }
    if collectives.is_main_process:
        predictions = evaluator.predictions(dataset.table)
        results |= {"outputs": predictions.outputs.tolist(), "loss": evaluator.loss}
    return results


def evaluate_network(collectives: Collectives, tta: Tta = "none") -> dict[str, Any]:
    """Predict 21 samples in batches of 4, with a network that draws (T08)."""
    torch.manual_seed(3)
    module, dataset = nn.Sequential(normed(), AlwaysDropout()), make_dataset()
    torch.manual_seed(collectives.rank)
    dataset.splits["validation"] = np.arange(60, 81)
    settings, evaluation = {"batch_size": 4, "micro_batch_size": 2}, Evaluation(tta=tta)
    experiment = make_experiment(training=settings, evaluation=evaluation)
    trainer = make_trainer(experiment, dataset, module=module, collectives=collectives)
    evaluator = trainer.evaluator("validation")
    progress = list(evaluator)
    if not collectives.is_main_process:
        return {"progress": progress}
    predictions = evaluator.predictions(dataset.table)
    bits = digest([torch.from_numpy(predictions.outputs), torch.tensor(evaluator.loss)])
    return {"progress": progress, "keys": predictions.keys, "bits": bits}


def call_collectives(collectives: Collectives) -> dict[str, Any]:
    """Call each collective once."""
    rank = collectives.rank
    tensor = torch.full((2, 3), float(rank), dtype=torch.bfloat16)
    flag = torch.tensor(rank == 0)
    collectives.broadcast_([tensor, flag])
    state = State({"w": torch.arange(3)}, {"0.m": torch.tensor(0.5)}, {"step": 7, "nan": [0.1]})
    received = broadcast_state(collectives, state if collectives.is_main_process else None)
    collectives.barrier()
    return {
        "all_reduce_sum": collectives.all_reduce_sum(torch.tensor([1.0, rank])).tolist(),
        "all_reduce_max": collectives.all_reduce_max(15 if rank == 1 else 0),
        "broadcast_object": collectives.broadcast_object(
            {"pi": 3.141592653589793, "text": "é" * (1 + rank)}
        ),
        "broadcast_": [tensor.tolist(), bool(flag)],
        "state": [
            received.weights["w"].tolist(),
            float(received.optimizer["0.m"]),
            received.record,
        ],
        "positions": collectives.local_positions(np.arange(7), 2).tolist(),
        "idle positions": collectives.local_positions(np.arange(2), 2).tolist(),
        "micro-batches": [list(collectives.local_micro_batches(n, 2)) for n in (7, 2)],
    }


def main(folder: Path) -> None:
    """Write the results of this process to a file."""
    torch.set_num_threads(1)
    with join_process_group(CPU, 60.0) as collectives:
        results = {
            "collectives": call_collectives(collectives),
            "dropout": train_network(collectives, Net, clip_grad_norm=0.5),
            "recipe": train_network(collectives, Net, parts=RECIPE),
            "batch norm": train_network(collectives, normed, batch_size=20, micro_batch_size=5),
            "idle": train_network(collectives, Net, 21, batch_size=20, micro_batch_size=10),
            "evaluation": evaluate_network(collectives),
            "views": evaluate_network(collectives, "d4"),
        }
    results["threads"] = len(gloo_threads())
    name = f"{collectives.world_size}-{collectives.rank}.json"
    (folder / name).write_text(json.dumps(results))


def gloo_threads() -> list[str]:
    """Return the threads of gloo that run collectives; only Linux names them."""
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name == "pt_gloo_runloop"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
