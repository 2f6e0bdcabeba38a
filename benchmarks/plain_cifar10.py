"""The peer of `specs/cifar10_resnet9.toml`: the same network and training as a plain script.

Call it with the folder that holds train and test, each with a folder per class. As in most scripts,
ImageFolder and a DataLoader with two workers read every image in every epoch. Network, losses,
learning rates, average of the weights, precision and test-time augmentation are those of the spec.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

WIDTHS = (64, 256, 256)
BATCH_SIZE, LR, WEIGHT_DECAY, VALIDATION = 128, 0.2, 5e-4, 0.02
TO_TENSOR = (
    transforms.ToTensor(),
    transforms.Normalize(mean=[0.491, 0.482, 0.447], std=[0.247, 0.243, 0.262]),
)
AUGMENTED = transforms.Compose(
    [transforms.RandomCrop(32, padding=3), transforms.RandomHorizontalFlip(), *TO_TENSOR]
)
PLAIN = transforms.Compose([*TO_TENSOR])


def layer(channels: int, width: int, *pool: nn.Module) -> nn.Sequential:
    """Return a convolution, optional pooling, normalisation and a ReLU."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, *pool, nn.BatchNorm2d(width), nn.ReLU())


class Stem(nn.Module):
    """Cosine transform of 2x2 patches and colours, normalised; positive and negative parts."""

    def __init__(self) -> None:
        super().__init__()
        basis = torch.einsum("uc,vy,wx->uvwcyx", cosines(3), cosines(2), cosines(2))
        self.register_buffer("basis", basis.reshape(12, 3, 2, 2))
        self.norm = nn.BatchNorm2d(12, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 24, 33, 33)."""
        x = self.norm(functional.conv2d(x, self.basis, padding=1))
        return torch.cat([x, -x], dim=1).relu()


def cosines(n: int) -> torch.Tensor:
    """Return the orthonormal DCT-II of n values as a matrix."""
    angles = torch.pi / n * torch.arange(n)[:, None] * (torch.arange(n) + 0.5)
    return functional.normalize(angles.cos())


class Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(layer(width, width), layer(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        return x + self.layers(x)


class Net(nn.Module):
    """ResNet9 with pooling before normalisation and a stem that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three = WIDTHS
        self.features = nn.Sequential(
            Stem(),
            layer(24, one, nn.MaxPool2d(2)),
            Residual(one),
            layer(one, two, nn.MaxPool2d(2)),
            layer(two, three, nn.MaxPool2d(2)),
            Residual(three),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(three, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 10)."""
        return self.head(self.features(x)) / 8


def autocast() -> torch.autocast:
    """Return the context of the network's precision."""
    return torch.autocast("cpu", torch.bfloat16)


def views(images: torch.Tensor) -> list[torch.Tensor]:
    """Return images and their mirror images, as they are and moved by a pixel to two corners."""
    views = [images, images.flip(-1)]
    padded = [functional.pad(view, (1, 1, 1, 1), mode="replicate") for view in views]
    return views + [view[..., :-2, :-2] for view in padded] + [view[..., 2:, 2:] for view in padded]


@torch.no_grad()
def accuracy(net: nn.Module, loader: DataLoader) -> float:
    """Return the accuracy with the mean outputs of an image and its views."""
    net.eval()
    num_correct, count = 0, 0
    for images, targets in loader:
        with autocast():
            outputs = sum(net(view).float() for view in views(images))
        num_correct += (outputs.argmax(dim=1) == targets).sum().item()
        count += len(images)
    return num_correct / count


def build_optimizer(net: nn.Module) -> torch.optim.SGD:
    """Return SGD without weight decay of normalisation and biases."""
    matrices = [weight for weight in net.parameters() if weight.ndim > 1]
    vectors = [weight for weight in net.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=LR, momentum=0.9, nesterov=True)


def train(net: nn.Module, loader: DataLoader, validation: DataLoader, epochs: int) -> nn.Module:
    """Train, print a line per epoch, and return the average of the weights."""
    optimizer = build_optimizer(net)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=epochs * len(loader), pct_start=0.2, anneal_strategy="linear",
        cycle_momentum=False,
    )  # fmt: skip
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    for epoch in range(1, epochs + 1):
        started, total = time.perf_counter(), 0.0
        net.train()
        for images, targets in loader:
            optimizer.zero_grad()
            with autocast():
                outputs = net(images.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(outputs.float(), targets, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            total += loss.item() * len(images)
        seconds = time.perf_counter() - started
        score = accuracy(average, validation)
        print(f"{epoch} {total / len(loader.dataset):.3f} {score:.4f} {seconds:.0f} s", flush=True)
    return average


def loader(dataset: Dataset, *, shuffle: bool = False) -> DataLoader:
    """Return a loader with two workers."""
    return DataLoader(
        dataset, BATCH_SIZE, shuffle=shuffle, num_workers=2, persistent_workers=shuffle
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    train_folder = arguments.root / "train"
    order = torch.randperm(len(ImageFolder(train_folder))).tolist()
    count = round(VALIDATION * len(order))
    net = Net().to(memory_format=torch.channels_last)
    average = train(
        net,
        loader(Subset(ImageFolder(train_folder, AUGMENTED), order[count:]), shuffle=True),
        loader(Subset(ImageFolder(train_folder, PLAIN), order[:count])),
        arguments.epochs,
    )
    print("test", accuracy(average, loader(ImageFolder(arguments.root / "test", PLAIN))))


if __name__ == "__main__":
    main()
