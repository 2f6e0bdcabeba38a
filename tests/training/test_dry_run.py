from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sightx
from sightx import DataError, PluginError, SpecError
from sightx.plugin import Model
from sightx.spec.experiment import Training
from sightx.training.dry_run import check_batches, dry_run, micro_batch_sizes


def test_counts_shapes_and_weights_are_those_of_the_run(spec: Path, tmp_path: Path) -> None:
    result = dry_run(sightx.load(spec))
    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    assert dict(result.counts) == run.data["counts"]
    assert list(result.classes) == run.data["classes"]
    assert (result.weights, result.trainable) == (run.data["weights"], run.data["trainable"])
    assert result.shape == (8, 3, 8, 8)
    assert result.outputs == (8, 2)


def test_memory_is_weights_gradients_moments_and_activations(spec: Path) -> None:
    result = dry_run(sightx.load(spec))
    weights = 192 * 6 + 6 + 6 * 2 + 2
    moments = 2 * weights + 4  # Adam keeps two of each, and a step a tensor
    saved = 8 * 192 + 8 * 6 * 2  # the flat input, and a hidden layer before and after the ReLU
    assert result.memory == pytest.approx(4 * (2 * weights + moments + saved), rel=0.05)


def test_resnet50_with_a_frozen_trunk_trains_16_million_weights(spec: Path) -> None:
    sets = ["model={use='resnet50', trainable=['layer4', 'head']}", "preprocess.resize.size=64"]
    result = dry_run(sightx.load(spec, sets))
    assert result.trainable == 16_016_389 - 3 * 513  # two classes here
    assert result.weights > 23_000_000
    unfrozen = dry_run(sightx.load(spec, [*sets, "model.trainable=[]"]))
    assert unfrozen.memory > result.memory


def test_missing_images_are_counted_and_the_first_is_named(spec: Path, folders: Path) -> None:
    csv = folders / "labels.csv"
    csv.write_text(
        "image,label\ntrain/dark/0.png,dark\ntrain/dark/gone.png,dark\ntrain/light/0.png,light\n"
    )
    sets = ["dataset={use='csv', root='.'}", "split={use='stratified', validation=0.0, test=0.0}",
            "training.monitor=train/loss"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folders)
        experiment = sightx.load(spec, sets)
    with pytest.raises(DataError) as caught:
        dry_run(experiment)
    (problem,) = caught.value.problems
    assert problem.message.startswith("1 of 3 images are missing; first: train/dark/gone.png")


def test_images_too_small_for_the_network_are_refused(spec: Path) -> None:
    with pytest.raises(SpecError, match="too small"):
        dry_run(sightx.load(spec, ["model={use='simple-cnn', widths=[4, 4, 4, 4]}"]))


def test_two_metrics_with_a_number_of_one_name_are_refused(spec: Path) -> None:
    experiment = sightx.load(spec, ["metric=[{use='f1'}, {use='f1'}]"])
    with pytest.raises(SpecError, match="f1 computes 'f1'"):
        dry_run(experiment)


BATCH_NORM = ["model={use='torchvision', arch='resnet18'}"]


@pytest.mark.parametrize(
    ("count", "batch_size", "micro_batch_size", "sizes"),
    [
        (24, 8, 0, [8]),
        (17, 8, 0, [8, 1]),
        (17, 8, 3, [3, 2, 1]),
        (5, 8, 0, [5]),
        (5, 8, 4, [4, 1]),
        (1, 8, 0, [1]),
    ],
)
def test_sizes_of_micro_batches(
    count: int, batch_size: int, micro_batch_size: int, sizes: list[int]
) -> None:
    settings = Training(batch_size=batch_size, micro_batch_size=micro_batch_size or None)
    assert micro_batch_sizes(count, settings) == sizes


@pytest.mark.parametrize("sets", [[], ["training.micro_batch_size=5", "training.batch_size=21"]])
def test_a_single_sample_for_batch_normalisation_is_found_without_data(
    spec: Path, sets: list[str]
) -> None:
    sets = [*BATCH_NORM, "training.batch_size=23", *sets]
    with pytest.raises(SpecError) as caught:
        dry_run(sightx.load(spec, sets))
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("cannot-train", "model")
    assert "Expected more than 1 value per channel" in problem.message
    key, _, size = problem.hint.partition(" leaves")[0].partition(" = ")
    dry_run(sightx.load(spec, [*sets, f"{key}={size}"]))


def test_a_network_that_needs_values_is_tried_on_the_cpu(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the meta device, where large batches are tried first, a tensor has no values."""
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "values.py").write_text(
        "from sightx.plugin import Model, hookimpl\n"
        "class Values(Model):\n"
        '    """Branch on a value."""\n'
        '    name = "values"\n'
        "    def build(self, channels, outputs, size):\n"
        "        from torch import nn\n"
        "        class Net(nn.Linear):\n"
        "            def forward(self, images):\n"
        "                print(images.device.type)\n"
        "                images = images.flatten(1)\n"
        "                return super().forward(images if images.sum() >= 0 else images * 2)\n"
        "        return Net(channels * size[0] * size[1], outputs)\n"
        "@hookimpl\n"
        "def sightx_components():\n"
        "    return [Values]\n"
    )
    for size, devices in ((8, ["cpu"]), (512, ["meta", "cpu"])):
        experiment = sightx.load(spec, ["model={use='values'}", f"preprocess.resize.size={size}"])
        check_batches(experiment, sightx.table(experiment))
        training, evaluation = capsys.readouterr().out.split(), devices[-1:]
        assert training == [*devices, *evaluation]


class Wide(Model):
    """Give more outputs in evaluation than in training."""

    name = "test-wide"

    def build(self, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        class Net(nn.Linear):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                result = super().forward(images.flatten(1))
                return result if self.training else torch.cat([result, result], dim=1)

        return Net(channels * size[0] * size[1], outputs)


def test_outputs_in_evaluation_are_those_of_training(spec: Path) -> None:
    experiment = sightx.load(spec).model_copy(update={"model": Wide()})
    with pytest.raises(PluginError, match=r"of test-wide .* returns \(8, 4\) .* in eval mode"):
        check_batches(experiment, sightx.table(experiment))
