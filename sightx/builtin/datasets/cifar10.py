"""CIFAR-10 from its published python batches, read without running what a pickle may hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.builtin.datasets.pickles import array, literal
from sightx.plugin import DataError, Dataset, Place, Problem, ResourceError, Traits

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import ImageTable

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FOLDER = "cifar-10-batches-py"
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_WAY = (
    "get cifar-10-python.tar.gz (163 MB) from cs.toronto.edu/~kriz/cifar.html, "
    "or set dataset.download = true"
)


class Cifar10(Dataset):
    """Read CIFAR-10: 60,000 pictures of 32x32 pixels in ten classes.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    name = "cifar10"

    root: Place
    """The folder that holds `cifar-10-batches-py`, or that folder itself."""
    download: bool = False
    """Whether to fetch the archive when it is not there; its checksum is verified."""

    def traits(self) -> Traits:
        """Return the ten classes; the published batches are split in train and test."""
        return Traits(CLASSES, has_split=True)

    def table(self) -> ImageTable:
        """Return a row for each picture, named by its batch and position."""
        import pandas as pd

        from sightx.plugin import ImageTable

        folder = self._folder()
        pictures: list[np.ndarray[Any, Any]] = []  # views: every batch is in memory once
        rows = []
        for name in BATCHES:
            pixels, labels = read_batch(folder / name)
            pictures.extend(pixels)
            side = "test" if name == "test_batch" else "train"
            rows += [(f"{name}/{at:05}", label, side) for at, label in enumerate(labels)]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        return ImageTable(frame, CLASSES, pictures.__getitem__, source=str(folder))

    def _folder(self) -> Path:
        from sightx.plugin import require_folder

        folder, gone = self._found()
        if gone and self.download and not str(self.root).startswith("@"):
            _download(self.root)
            folder, gone = self._found()
        require_folder(self.root, "dataset.root", _WAY)
        if gone:
            message = f"no {', '.join(gone)}"
            raise DataError(Problem("missing-data", message, _WAY, "dataset.root", str(folder)))
        return folder

    def _found(self) -> tuple[Path, list[str]]:
        """Return the folder of the batches, and which of them are not there."""
        inner = self.root / FOLDER
        folder = inner if inner.is_dir() else self.root
        return folder, [name for name in BATCHES if not (folder / name).is_file()]


def read_batch(path: Path) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Return a batch's pixels, uint8 (N, 32, 32, 3), and labels. Raises DataError."""
    try:
        content = {_text(key): value for key, value in literal(path.read_bytes()).items()}
        labels = content["labels"]
        planes = array(content["data"]).reshape(len(labels), 3, 32, 32)
        wrong = [label for label in labels if type(label) is not int or not 0 <= label < 10]
        if wrong:
            raise ValueError(f"label {wrong[0]!r} is outside 0..9")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        message = f"is no CIFAR-10 batch ({type(error).__name__}: {error})"
        raise DataError(Problem("bad-batch", message, _WAY, file=str(path))) from error
    return planes.transpose(0, 2, 3, 1), labels


def _download(root: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(CIFAR10.url, str(root), md5=CIFAR10.tgz_md5)
    except (OSError, RuntimeError) as error:
        problem = Problem("no-download", f"{CIFAR10.url}: {error}", _WAY, "dataset.download")
        raise ResourceError(problem) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
