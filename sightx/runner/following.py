"""A run as the processes behind the first one see it: they compute, and write and say nothing."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightx.data import dataset, preprocess
from sightx.data.dataset import PreparedDataset
from sightx.data.preparation import CacheConfig
from sightx.distributed import rendezvous
from sightx.distributed.collectives import (
    SingleProcess,
    check_idle_ranks,
    join_process_group,
    local_device,
)
from sightx.distributed.failures import lost_ranks_error, propagate_first_failure
from sightx.errors import DataError, Problem
from sightx.io.signals import Interrupted, StopRequest, restore_handlers, stop_on_signals
from sightx.records.table import ImageTable
from sightx.runner.resume import Resumption
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.training.setup import build_module, choose_device
from sightx.training.state import broadcast_state
from sightx.training.trainer import Trainer


class Followed(Run):
    """Name the run of the first process, whose directory need not be on this host."""

    def __init__(self, directory: Path, result: Mapping[str, Any]) -> None:
        super().__init__(directory)
        self._result = dict(result)

    @property
    def result(self) -> dict[str, Any]:
        """Return status and final figures."""
        return self._result


def device_of(experiment: Experiment) -> torch.device:
    """Return the device of this process. Raises ResourceError where there is no such one."""
    return choose_device(local_device(experiment.execution.device))


@contextmanager
def together(experiment: Experiment) -> Iterator[SingleProcess]:
    """Be one of the processes of a run; whatever ends one ends all, with one reason.

    Raises SpecError where a process would have nothing to do.
    """
    with (
        restore_handlers(),
        join_process_group(
            device_of(experiment), experiment.execution.group_timeout
        ) as collectives,
        propagate_first_failure(experiment.context.registry),
    ):
        check_idle_ranks(experiment.training, collectives.world_size)
        yield collectives


def begin(
    collectives: SingleProcess, run: Run, *, resumed: bool = False, over: bool = False
) -> None:
    """Tell the other processes what they are about to do."""
    collectives.barrier()  # the first has read its tables, however long that took
    collectives.broadcast_object({"run": str(run.directory), "resumed": resumed, "over": over})


def finish(collectives: SingleProcess, run: Run) -> Run:
    """Let the other processes go, now that everything is written, and return the run."""
    if collectives.world_size > 1:
        rendezvous.publish_result(run.result)
    return run


def notes(experiment: Experiment, module: nn.Module, collectives: SingleProcess) -> Iterator[str]:
    """Yield what several processes do otherwise than one."""
    if collectives.world_size == 1:
        return
    if any(hasattr(part, "running_mean") for part in module.modules()):
        yield "batch normalisation: running statistics are those of rank 0's micro-batches"
    if experiment.execution.compile:
        yield "execution.compile: with several processes the network is not compiled"


def follow(experiment: Experiment, collectives: SingleProcess) -> Run:
    """Do the part of a process that is not the first; it ends after that one has written all.

    Raises ResourceError where that one has ended otherwise.
    """
    collectives.barrier()
    heard: dict[str, Any] = collectives.broadcast_object({})
    run = Run(Path(heard["run"]))
    if not heard["over"]:
        with suppress(_Agreed), stop_on_signals() as asked:
            _Following(experiment, run, collectives, asked).go(resumed=heard["resumed"])
    if (result := rendezvous.await_result()) is None:
        raise lost_ranks_error([0])
    return Followed(run.directory, result)


class _Agreed(Interrupted):
    """Say that all processes have heard a signal, and end after one and the same step."""


class _Following:
    """Carry an experiment through in step with the first process."""

    def __init__(
        self, experiment: Experiment, run: Run, collectives: SingleProcess, asked: StopRequest
    ) -> None:
        self._experiment, self._run, self._collectives, self._asked = (
            experiment,
            run,
            collectives,
            asked,
        )
        self._device = device_of(experiment)

    def go(self, *, resumed: bool) -> None:
        """Do what the first process does between directory and result."""
        table = dataset.load_split_table(self._experiment.dataset, self._experiment.split)
        if resumed:
            table = Resumption(self._run, self._experiment, self._device).table(table)
        module, data = self._module(table), self._prepare(table)
        self._collectives.barrier()
        trainer = Trainer(self._experiment, data, module, self._device, self._collectives)
        refuse_others(self._collectives, data)
        if self._collectives.broadcast_object(False):
            trainer.restore(broadcast_state(self._collectives, None))
        self._collectives.barrier()  # the first writes and tells here, and again after the loop
        for _ in trainer.events():
            self._heed()
        self._collectives.barrier()
        trainer.load_weights(broadcast_state(self._collectives, None))
        for side in scored(self._experiment, data):
            for _ in trainer.evaluator(side):
                self._heed()

    def _module(self, table: ImageTable) -> nn.Module:
        model, loss = self._experiment.model, self._experiment.loss
        shape = preprocess.output_shape(self._experiment.preprocess, table.shape)
        return build_module(model, loss, len(table.classes), shape, self._experiment.seed)

    def _prepare(self, table: ImageTable) -> PreparedDataset:
        here = self._run.directory.is_dir()
        faults = self._run.directory if here else Path(tempfile.gettempdir())
        return dataset.prepare_dataset(
            table,
            self._experiment.dataset,
            self._experiment.preprocess,
            storage=CacheConfig.of(self._experiment, self._device),
            threads=self._experiment.execution.threads,
            progress=self._progress,
            faults=faults / "bad-images.csv",
        )

    def _progress(self, done: int, of: int) -> None:
        if self._asked.number:
            raise Interrupted(self._asked.number)

    def _heed(self) -> None:
        if number := self._collectives.all_reduce_max(self._asked.number):
            raise _Agreed(number)


def refuse_others(collectives: SingleProcess, data: PreparedDataset) -> None:
    """Raise DataError where a process does not see what the first one sees, in its order."""
    if collectives.world_size == 1:
        return
    digest = hashlib.sha256(json.dumps(data.table.classes).encode())
    columns = (data.table.frame[name].astype(str) for name in ("path", "split", "label"))
    for row in zip(*columns, data.digests, strict=True):
        digest.update("\0".join(row).encode("utf-8", "surrogateescape"))
    here = digest.hexdigest()
    if collectives.broadcast_object(here) != here:
        message = "its samples, their sides, labels or order are not those of rank 0"
        hint = "give all hosts the same data, and a run that goes on its directory"
        raise DataError(Problem("other-data", message, hint))
    collectives.barrier()  # the first changes the run only when nobody has objected


def scored(experiment: Experiment, data: PreparedDataset) -> list[str]:
    """Return the sides that are scored at the end."""
    sides = ["validation", *(["test"] if experiment.evaluation.test == "end" else [])]
    return [side for side in sides if len(data.splits[side])]
