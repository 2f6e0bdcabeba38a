"""Names of other libraries lead to the component or the key of SightX that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from sightx.plugin import Augment, Component, Metric, Model
from sightx.registry.kinds import KINDS
from sightx.registry.loading import load_registry
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry
from sightx.registry.suggestions import (
    component_hint,
    components_called,
    other_settings,
    setting_hint,
)


@pytest.fixture(scope="module")
def components() -> list[type[Component]]:
    return load_registry(Project(Path())).components()


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("augment", "RandomHorizontalFlip", "flip"),
        ("augment", "RandomResizedCrop", "crop"),
        ("augment", "random_rotation", "rotate"),
        ("scheduler", "ReduceLROnPlateau", "plateau"),
        ("scheduler", "CosineAnnealingLR", "cosine"),
        ("scheduler", "OneCycleLR", "one-cycle"),
        ("loss", "sparse_categorical_crossentropy", "cross-entropy"),
        ("loss", "weighted-cross-entropy", "inverse-frequency-cross-entropy"),
        ("sampler", "WeightedRandomSampler", "balanced"),
        ("stopping", "EarlyStopping", "early"),
        ("checkpoint", "ModelCheckpoint", "best"),
        ("average", "ModelEma", "ema"),
        ("metric", "roc_auc", "auc"),
        ("metric", "CohenKappa", "qwk"),
        ("dataset", "ImageFolder", "image-folder"),
        ("split", "train_test_split", "stratified"),
        ("optimizer", "AdamW", "adamw"),
        ("observer", "tqdm", "console"),
        ("optimizer", "momentum", "sgd"),
        ("scheduler", "cosineannealinglr", "cosine"),
        ("scheduler", "reduce_lr_on_plateau", "plateau"),
        ("augment", "randomhorizontalflip", "flip"),
        ("loss", "bce", "cross-entropy"),
        ("checkpoint", "modelcheckpoint", "best"),
    ],
)
def test_names_of_components_in_other_libraries(
    components: list[type[Component]], kind: str, name: str, meant: str
) -> None:
    assert component_hint(components, kind, name) == f"did you mean {meant!r}?"


@pytest.mark.parametrize("kind", [cls.kind for cls in KINDS])
def test_another_name_means_at_most_two_components_of_a_kind_and_is_not_one(
    components: list[type[Component]], kind: str
) -> None:
    own = [component for component in components if component.kind == kind]
    for component in own:
        for name in component.other_names:
            meant = components_called(own, name)
            assert component in meant
            assert len(meant) <= 2
            assert name not in [one.name for one in own]


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("ResNet18", "resnet18"),
        ("torchvision.models.resnet18", "resnet18"),
        ("EfficientNetB0", "efficientnet_b0"),
        ("tf_efficientnet_b0", "efficientnet_b0"),
        ("mobilenetv3_large_100", "mobilenet_v3_large"),
        ("convnext_tiny.fb_in1k", "convnext_tiny"),
        ("vit_base_patch16_224", "vit_b_16"),
    ],
)
def test_networks_of_timm_and_keras_lead_to_those_of_torchvision(
    components: list[type[Component]], name: str, arch: str
) -> None:
    hint = component_hint(components, "model", name)
    assert hint == f'did you mean use = "torchvision" and arch = "{arch}"?'


def header(kind: str) -> str:
    return f"[{kind}]"


def test_only_names_of_classes_lead_to_another_kind(components: list[type[Component]]) -> None:
    hint = component_hint(components, "augment", "Normalize")
    assert hint == 'move it to normalize, with use = "values"'
    assert component_hint(components, "normalize", "none") == ""


def test_keys_of_other_libraries(components: list[type[Component]]) -> None:
    def hint(section: str, name: str) -> str:
        return setting_hint(components, section, name, header)

    assert hint("scheduler", "patience") == 'it is a key of [scheduler] with use = "plateau"'
    assert hint("training", "patience") == 'did you mean [stopping] with use = "early"?'
    assert hint("training", "beta1").startswith("did you mean 'betas', a key of [optimizer] with")
    assert hint("training", "xyzzy") == ""
    assert other_settings("Learning-Rate") == ["lr"]
    assert other_settings("patient") == ["group"]
    assert other_settings("patient", of_datasets=False) == []


def test_a_component_of_a_plugin_has_other_names_too() -> None:
    class Solarize(Augment):
        """Invert bright pixels."""

        name = "solarize"
        other_names = ("RandomSolarize",)

    class Kappa(Metric):
        """Agreement."""

        name = "agreement"
        other_names: ClassVar[tuple[str, ...]] = ("kappa",)

    registry = Registry()
    registry.add(Plugin("mine", "/p/mine.py"), [Solarize, Kappa])
    assert component_hint(registry.components(), "augment", "random_solarize") == (
        "did you mean 'solarize'?"
    )
    assert registry.meant_by("metric", "Kappa") == ["agreement"]


def test_a_validator_that_fails_suggests_nothing() -> None:
    class Strange(Model):
        """A model of a plugin."""

        name = "strange"
        arch: str

        def model_post_init(self, _: object) -> None:
            raise RuntimeError

    assert component_hint([Strange], "model", "resnet18") == ""
