"""The components that ship with SightX, registered like those of any other plugin."""

from __future__ import annotations

from sightx.builtin import (
    augment,
    averages,
    by_column,
    checkpoints,
    checks,
    clahe,
    fellow_eye,
    losses,
    metrics,
    mix,
    normalize,
    optimizers,
    ordinal_losses,
    postprocess,
    preprocess,
    probability_metrics,
    proportional_odds,
    quality,
    randaugment,
    random_erasing,
    samplers,
    schedulers,
    splits,
    stopping,
)
from sightx.builtin.datasets import cifar10, csv, folder, packed, shards, synthetic_fundus
from sightx.builtin.models import (
    coral_head,
    efficientnet_lite,
    resnet,
    resnet9,
    simple_cnn,
    simplenet,
    torchvision,
)
from sightx.builtin.observers import console, curves, logs, mlflow, report, tensorboard
from sightx.plugin import Check, Component, hookimpl


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return all built-in components, by kind."""
    return [
        csv.CsvDataset, csv.EyePacs, cifar10.Cifar10, folder.ImageFolder, packed.Packed,
        shards.Shards, synthetic_fundus.SyntheticFundus,
        splits.Given, splits.Grouped, splits.Stratified, splits.Listed,
        clahe.Clahe, preprocess.CenterCrop, preprocess.CropToFundus, preprocess.Grayscale,
        preprocess.Resize,
        normalize.FromModel, normalize.ImageNet, normalize.OverDataset, normalize.Values,
        augment.ColorJitter, augment.Crop, augment.Flip, augment.Rotate, augment.Shift,
        mix.CutMix, mix.MixUp, randaugment.RandAugment, random_erasing.RandomErasing,
        samplers.Balanced, samplers.BalancedByColumn, samplers.DecayingBalance,
        samplers.Sequential, samplers.Shuffle,
        coral_head.CoralHead, efficientnet_lite.EfficientNetLite0, resnet.ResNet50,
        resnet9.ResNet9, simple_cnn.SimpleCnn, simplenet.SimpleNet,
        torchvision.TorchvisionModel,
        losses.CrossEntropy, losses.Focal, losses.InverseFrequencyCrossEntropy,
        losses.NoiseAdaptation, losses.SampleWeighted,
        ordinal_losses.Coral, ordinal_losses.Corn, ordinal_losses.OrdinalRegression,
        optimizers.Adam, optimizers.AdamW, optimizers.RmsProp, optimizers.Sam, optimizers.Sgd,
        schedulers.Constant, schedulers.Cosine, schedulers.GradualUnfreezing, schedulers.OneCycle,
        schedulers.Plateau, schedulers.Step,
        averages.Ema, averages.Swa,
        fellow_eye.FellowEye, postprocess.CutPoints, postprocess.Temperature,
        proportional_odds.ProportionalOdds,
        quality.Fundus,
        by_column.ByColumn,
        metrics.Accuracy, metrics.BalancedAccuracy, metrics.ConfusionMatrix, metrics.F1,
        metrics.Precision, metrics.Qwk, metrics.Recall, metrics.Specificity,
        probability_metrics.Auc, probability_metrics.Brier, probability_metrics.Ece,
        probability_metrics.LogLoss, probability_metrics.Rps,
        checkpoints.Best, checkpoints.Every, checkpoints.Last,
        stopping.Early, stopping.Never, stopping.TimeLimit,
        console.Console, curves.Curves, logs.EpochPredictions, logs.StepLog,
        mlflow.Mlflow, report.Report, tensorboard.TensorBoard,
    ]  # fmt: skip


@hookimpl
def sightx_checks() -> list[Check]:
    """Return all built-in checks, by stage."""
    return checks.CHECKS
