"""CIFAR-10 from its published Python batches, whose pickles cannot run code."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sightx.plugin import DataError, Dataset, Place, Problem, ResourceError, Traits

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import ImageTable

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FOLDER = "cifar-10-batches-py"
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_HOW_TO_GET = (
    "get cifar-10-python.tar.gz (163 MB) from cs.toronto.edu/~kriz/cifar.html, "
    "or set dataset.download = true"
)


class Cifar10(Dataset):
    """Read CIFAR-10: 60,000 images of 32x32 pixels in ten classes.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    name = "cifar10"

    root: Place
    """The folder that contains `cifar-10-batches-py`, or that folder itself."""
    download: bool = False
    """Whether to download the archive if it is missing; its checksum is verified."""

    def traits(self) -> Traits:
        """Return the ten classes; the published batches are split into train and test."""
        return Traits(CLASSES, has_split=True)

    def table(self) -> ImageTable:
        """Return one row per image, named by its batch and position."""
        import pandas as pd

        from sightx.plugin import ImageTable

        folder = self._folder()
        images: list[np.ndarray[Any, Any]] = []  # views, so that every batch is in memory once
        rows = []
        for name in BATCHES:
            pixels, labels = read_batch(folder / name)
            images.extend(pixels)
            split = "test" if name == "test_batch" else "train"
            rows += [(f"{name}/{index:05}", label, split) for index, label in enumerate(labels)]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        return ImageTable(frame, CLASSES, images.__getitem__, source=str(folder))

    def _folder(self) -> Path:
        from sightx.plugin import require_folder

        folder, missing = self._find_batches()
        if missing and self.download and not str(self.root).startswith("@"):
            _download(self.root)
            folder, missing = self._find_batches()
        require_folder(self.root, "dataset.root", _HOW_TO_GET)
        if missing:
            message = f"no {', '.join(missing)}"
            problem = Problem("missing-data", message, _HOW_TO_GET, "dataset.root", str(folder))
            raise DataError(problem)
        return folder

    def _find_batches(self) -> tuple[Path, list[str]]:
        """Return the folder of the batches, and which of them are missing."""
        inner = self.root / FOLDER
        folder = inner if inner.is_dir() else self.root
        return folder, [name for name in BATCHES if not (folder / name).is_file()]


def read_batch(path: Path) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Return a batch's images, uint8 (N, 32, 32, 3), and labels. Raises DataError."""
    try:
        batch = _BatchUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        content = {_text(key): value for key, value in batch.items()}
        labels = content["labels"]
        planes = content["data"].to_numpy().reshape(len(labels), 3, 32, 32)
        wrong = [label for label in labels if type(label) is not int or not 0 <= label < 10]
        if wrong:
            raise ValueError(f"label {wrong[0]!r} is outside 0..9")
    except Exception as error:  # a damaged pickle raises errors of any type
        message = f"is not a CIFAR-10 batch ({type(error).__name__}: {error})"
        raise DataError(Problem("bad-batch", message, _HOW_TO_GET, file=str(path))) from error
    return planes.transpose(0, 2, 3, 1), labels


# pickle.Unpickler, which is written in C, reserves as much memory as a damaged file asks for.
class _BatchUnpickler(pickle._Unpickler):
    """Unpickle numbers, texts and arrays of bytes; refuse all else that a pickle can name.

    Even numpy's own functions are not called: `_Array` and `_Dtype` take their place.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # as before numpy 2
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it names {module}.{name}")
        return partial(_ALLOWED[module, name])  # a new object, because a pickle could change it


class _Dtype:
    """The type of an array in a pickle."""

    def __init__(self, name: str | bytes, *_: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        """Ignore the byte order and the size, which follow from the name."""


class _Array:
    """An array in a pickle: a shape, a type and bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return the array, which must be of type uint8."""
        import numpy as np

        _, shape, dtype, is_fortran, raw = self.state
        if dtype.name not in ("u1", "|u1"):
            raise ValueError(f"an array of {dtype.name}, not of bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", raw)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if _text(encoding) != "latin1":
        raise ValueError(f"bytes encoded as {encoding}")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,  # from protocol 5 on
    ("_codecs", "encode"): _encode,  # how protocols before 3 write bytes
    ("__builtin__", "bytes"): lambda: b"",  # and no bytes
}


def _download(root: Path) -> None:
    """Download the archive, and add the files that the folder of batches lacks."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=root) as folder:
            archive = root / CIFAR10.url.rpartition("/")[2]
            if archive.is_file():  # it is not downloaded again if its hash is right
                shutil.copy(archive, folder)
            download_and_extract_archive(CIFAR10.url, folder, md5=CIFAR10.tgz_md5)
            (root / FOLDER).mkdir(exist_ok=True)
            for path in sorted(Path(folder, FOLDER).iterdir()):
                if not os.path.lexists(root / FOLDER / path.name):
                    path.rename(root / FOLDER / path.name)
    except (OSError, RuntimeError) as error:
        message = f"{CIFAR10.url}: {error}"
        problem = Problem("no-download", message, _HOW_TO_GET, "dataset.download")
        raise ResourceError(problem) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
