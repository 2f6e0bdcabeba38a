"""Quantise an exported network to 8-bit integers, and measure what that costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightx.errors import Problem, RunError, missing_extra
from sightx.evaluation.intervals import Interval, paired_differences
from sightx.inference.model_folder import INT8, ONNX
from sightx.inference.onnx_network import INPUT, OnnxNetwork
from sightx.inference.predictor import Predictor
from sightx.records.history import Direction
from sightx.records.pixels import evenly_spaced
from sightx.registry.metric_results import metric_directions
from sightx.runner.evaluate import predict_split
from sightx.runner.resume import stored_experiment
from sightx.runs.directory import Run, finite_or_null

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.data.dataset import PreparedDataset
    from sightx.records.predictions import Predictions
    from sightx.registry.kinds import Metric
    from sightx.spec.experiment import Experiment

_CALIBRATION_IMAGES = 512
_BATCH = 8
_LAYERS = ("Conv", "Gemm", "MatMul")
_QUANTIZED = (*_LAYERS, "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")
_TIMED_IMAGES, _REPEATS = 8, 3


@dataclass(frozen=True)
class Int8Cost:
    """What computing in 8-bit integers costs on the validation split, and what it gains.

    Attributes:
        name: The file of the network.
        images: The number of validation images.
        metric: The monitored metric.
        direction: Whether more ("max") or less ("min") of it is better.
        value: The metric of PyTorch in fp32.
        difference: That of int8 minus that of PyTorch, paired, with its 95 % interval over groups;
            without an interval (`reason`) the difference itself is checked.
        changed_decisions: The number of images with another decision.
        milliseconds: Time per image in batches of one on this machine, by what computes it.
    """

    name: str
    images: int
    metric: str
    direction: Direction
    value: float
    difference: Interval
    changed_decisions: int
    milliseconds: dict[str, float]

    def __str__(self) -> str:
        """Return one line."""
        one, times = self.difference, self.milliseconds
        limits = f"no interval: {one.reason}"
        if not one.reason:
            limits = f"95 % {one.low:+.4f} to {one.high:+.4f}"
        speed = ", ".join(f"{engine} {value:.1f} ms" for engine, value in times.items())
        return (
            f"{self.name}: {self.metric} {self.value:.4f} -> {self.value + one.value:.4f}, "
            f"difference {one.value:+.4f} ({limits}), "
            f"{self.changed_decisions} of {self.images} decisions changed; per image: {speed}"
        )

    def checked(self, limit: float) -> Int8Cost:
        """Return the cost; raise RunError if the loss may be beyond a limit, or is undefined."""
        one = self.difference
        low, high = (one.value, one.value) if one.reason else (one.low, one.high)
        loss = -low if self.direction == "max" else high
        if not loss <= limit:
            hint = "leave out --int8, or allow more with --int8-loss"
            message = f"int8 may lose {loss:.4f} of {self.metric}, more than {limit:g}: {self}"
            raise RunError(Problem("int8-loss", message, hint))
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the cost as JSON values."""
        difference = finite_or_null(self.difference._asdict())
        return {**self.__dict__, "difference": difference}


def calibration_images(data: PreparedDataset) -> Tensor:
    """Return up to 512 training images, uint8 (N, C, H, W): one per group, in the classes' shares.

    `data` has the samples of the training split.
    """
    positions, table = data.splits["train"], data.table
    chosen = positions[np.unique(table.groups[positions], return_index=True)[1]]
    by_class = chosen[np.argsort(table.labels[chosen], kind="stable")]
    return data.rows.gather(evenly_spaced(by_class, _CALIBRATION_IMAGES))


def quantize(content: bytes, calibration: Tensor) -> bytes:
    """Return an ONNX file whose layers compute in int8, from one in fp32.

    Ranges are those of calibration images, uint8 (N, C, H, W); weights have one scale per channel.
    Everything up to the first layer, and from the last layer on, stays fp32. Raises PluginError if
    ONNX Runtime is missing.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise missing_extra(error.name or "onnxruntime", "onnx") from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Tensor] = iter(torch.split(calibration, _BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        original, prepared, result = (Path(folder) / f"{number}.onnx" for number in range(3))
        original.write_bytes(content)
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, result, Reader(), per_channel=True,
            # Without it, sums of products overflow on x86 processors that lack VNNI.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_exclude=_fp32_nodes(onnx.load(prepared)),
        )  # fmt: skip
        return result.read_bytes()


def _fp32_nodes(model: Any) -> list[str]:
    """Return the nodes up to the first layer, and from the last one on; nodes are in order."""
    nodes = list(model.graph.node)
    layers = [number for number, node in enumerate(nodes) if node.op_type in _LAYERS]
    first, last = (layers[0], layers[-1]) if layers else (0, 0)
    return [node.name for number, node in enumerate(nodes) if not first < number < last]


def measure_cost(
    run: Run, data: PreparedDataset, predictor: Predictor, content: bytes, small: bytes
) -> Int8Cost:
    """Compare an int8 network with PyTorch on the validation split of a run.

    Args:
        run: The run, which names the monitored metric.
        data: The samples of its validation split.
        predictor: The checkpoint in PyTorch, in fp32.
        content: The ONNX file in fp32.
        small: The ONNX file in int8.
    """
    experiment, networks = stored_experiment(run), (OnnxNetwork(content), OnnxNetwork(small))
    int8 = Predictor(predictor.recipe, networks[1], predictor.device, predictor.model)
    table, _ = predict_split(run, experiment, "validation", int8, data)
    expected, _ = predict_split(run, experiment, "validation", predictor, data)
    metric, key, direction = _monitored(experiment, table)
    pixels = data.rows.gather(evenly_spaced(data.splits["validation"], _TIMED_IMAGES))
    calls = zip(("PyTorch", ONNX, INT8), (predictor.outputs, *networks), strict=True)
    return Int8Cost(
        name=INT8,
        images=len(table),
        metric=key,
        direction=direction,
        value=float(metric.compute(expected)[key]),
        difference=paired_differences(table, expected, [metric])[key],
        changed_decisions=int((table.decisions != expected.decisions).sum()),
        milliseconds={name: _milliseconds(call, pixels) for name, call in calls},
    )


def _monitored(experiment: Experiment, table: Predictions) -> tuple[Metric, str, Direction]:
    """Return the monitored metric, its name and its direction; of a monitored loss, the first."""
    known = [
        (metric, key, direction)
        for metric in experiment.metric
        for key, direction in metric_directions(metric, table.classes).items()
    ]
    monitor = experiment.training.monitor.partition("/")[2]
    return next((one for one in known if one[1] == monitor), known[0])


def _milliseconds(call: Any, pixels: Tensor) -> float:
    """Return the shortest mean time per image, in batches of one."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        for image in pixels:
            call(image[None])
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(pixels)
