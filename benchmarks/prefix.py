"""Time an epoch of a ResNet50 with a frozen prefix, with cached features and without.

    python benchmarks/prefix.py [--rounds 3] [--images 48] [--size 224] [--precision fp32]

No augmentation, batch 8; the epochs after the first, on the GPU if there is one, else on the CPU.
The peer is the same run with `execution.cache_features = "off"`. Target: 3 times as fast if only
the head is trained; with layer4 the trained part costs more, and less can be saved.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from functools import partial

import torch
from rounds import Case, medians, table
from step import Workload

from sightx import Experiment
from sightx.builtin import optimizers
from sightx.builtin.models.resnet import ResNet50
from sightx.plugin import Epoch
from sightx.spec.experiment import Execution
from sightx.training.trainer import Trainer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 8
TRAINABLE = {"only the head": ("head",), "layer4 and the head": ("layer4", "head")}


def experiment(workload: Workload, features: str, epochs: int = 3) -> Experiment:
    """Return the workload's experiment over some epochs, with `cache_features` set."""
    training = workload.experiment.training.model_copy(update={"epochs": epochs})
    execution = Execution.model_validate({"cache_features": features})
    return workload.experiment.model_copy(update={"training": training, "execution": execution})


def epoch(workload: Workload, features: str) -> float:
    """Return the seconds of an epoch after the first."""
    trainer = Trainer(experiment(workload, features), workload.dataset, workload.module(), DEVICE)
    seconds = [event.seconds for event in trainer.events() if isinstance(event, Epoch)]
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    steps = arguments.images // BATCH
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name, trainable in TRAINABLE.items():
        model, size = ResNet50(trainable=trainable), arguments.size
        workload = Workload(model, optimizers.Adam(), size, BATCH, steps, arguments.precision)
        cases: dict[str, Case] = {
            'cache_features = "off"': partial(epoch, workload, "off"),
            'cache_features = "auto"': partial(epoch, workload, "auto"),
        }
        results = {case: steps * BATCH / s for case, s in medians(cases, arguments.rounds).items()}
        print(f"\nResNet50, {name}, {size} px, {arguments.precision}, {DEVICE.type}")
        print(table(results, 'cache_features = "off"', "images/s", more_is_better=True))


if __name__ == "__main__":
    main()
