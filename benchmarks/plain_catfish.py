"""The peer of `command.py`: the same training as a plain script, as in a tutorial.

Call it with the folder that holds train, val and test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

PIXELS = transforms.Compose(
    [
        transforms.Lambda(lambda image: image.convert("RGB")),
        transforms.Resize((64, 64)),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


class Net(nn.Module):
    """12288-84-50-2."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12288, 84)
        self.fc2 = nn.Linear(84, 50)
        self.fc3 = nn.Linear(50, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 2)."""
        x = functional.relu(self.fc1(x.view(-1, 12288)))
        return self.fc3(functional.relu(self.fc2(x)))


def score(net: nn.Module, loader: DataLoader) -> tuple[float, float]:
    """Return the mean loss and the accuracy of a split."""
    net.eval()
    loss, num_correct, count = 0.0, 0, 0
    with torch.no_grad():
        for images, targets in loader:
            outputs = net(images)
            loss += functional.cross_entropy(outputs, targets).item() * len(images)
            num_correct += (outputs.argmax(dim=1) == targets).sum().item()
            count += len(images)
    return loss / count, num_correct / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--save", type=Path, default=Path("plain_catfish.pt"))
    arguments = parser.parse_args()
    names = ("train", "val", "test")
    splits = {name: ImageFolder(arguments.root / name, PIXELS) for name in names}
    loaders = {name: DataLoader(split, batch_size=64) for name, split in splits.items()}
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    for epoch in range(arguments.epochs):
        net.train()
        total = 0.0
        for images, targets in loaders["train"]:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(images), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        loss, accuracy = score(net, loaders["val"])
        print(f"{epoch} {total / len(splits['train']):.2f} {loss:.2f} {accuracy:.2f}")
    print("test", score(net, loaders["test"]))
    torch.save(net.state_dict(), arguments.save)


if __name__ == "__main__":
    main()
