"""CIFAR-10 from its published python batches, read without running what a pickle may hold."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx import DataError, Dataset, Place, Problem, Traits

if TYPE_CHECKING:
    import numpy as np

    from sightx import ImageTable

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FOLDER = "cifar-10-batches-py"
_TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
_WAY = "get the python version (163 MB) from the authors' page, or set dataset.download = true"


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
        import numpy as np
        import pandas as pd

        from sightx import ImageTable

        folder = self._folder()
        batches = {name: read_batch(folder / name) for name in (*_TRAIN, "test_batch")}
        pixels = np.concatenate([pixels for pixels, _ in batches.values()])
        rows = [
            (f"{name}/{position:05}", label, "test" if name == "test_batch" else "train")
            for name, (_, labels) in batches.items()
            for position, label in enumerate(labels)
        ]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        return ImageTable(frame, CLASSES, lambda index: pixels[index], source=str(folder))

    def _folder(self) -> Path:
        from sightx import labelled_folder

        if self.download and not (self.root / FOLDER).is_dir():
            _download(self.root)
        root = labelled_folder(self.root, "dataset.root", _WAY)
        folder = root / FOLDER if (root / FOLDER).is_dir() else root
        gone = [name for name in (*_TRAIN, "test_batch") if not (folder / name).is_file()]
        if gone:
            raise DataError(Problem("missing-data", f"no {', '.join(gone)}", _WAY, file=str(folder)))
        return folder


def read_batch(path: Path) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Return a batch's pixels, uint8 (N, 32, 32, 3), and labels. Raises DataError."""
    import numpy as np

    try:
        content = {_text(key): value for key, value in _literal(path.read_bytes()).items()}
        raw, labels = _bytes(content["data"]), [int(label) for label in content["labels"]]
        planes = np.frombuffer(raw, dtype=np.uint8).reshape(len(labels), 3, 32, 32)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        raise DataError(
            Problem("bad-batch", f"is no CIFAR-10 batch ({error})", _WAY, file=str(path))
        ) from error
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _download(root: Path) -> None:
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(Problem("no-download", str(error), _WAY, "dataset.download")) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(array: Any) -> bytes:
    """Return the raw bytes of an array, which pickle describes as a call and a state."""
    found = max(_leaves(array), key=len, default=b"")
    if not found:
        raise ValueError("no pixels")
    return found


def _leaves(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, str):
        return [value.encode("latin-1", "ignore")]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, (tuple, list)) else []


def _literal(data: bytes) -> dict[Any, Any]:
    """Return the data of a pickle with every call left as a tuple of its parts; runs nothing."""
    machine = _Machine()
    for code, argument, _ in pickletools.genops(data):
        machine.step(code, argument)
    result = machine.stack[-1]
    if not isinstance(result, dict):
        raise TypeError("no table")
    return result


class _Machine:
    """Follow a pickle's stack; objects and calls become plain tuples."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, code: Any, argument: Any) -> None:
        """Do one operation."""
        name: str = code.name
        if name in {"PROTO", "FRAME", "STOP"}:
            return
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name.endswith("PUT") or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name.endswith("GET"):
            self.stack.append(self.memo[argument])
        elif argument is not None and name != "REDUCE":
            self.stack.append(argument)  # numbers, strings, the names of functions
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        if name in {"EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "NONE", "NEWTRUE", "NEWFALSE"}:
            fresh = {"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": (), "NEWTRUE": True}
            self.stack.append(fresh.get(name))
        elif name in {"TUPLE1", "TUPLE2", "TUPLE3"}:
            self._fold(int(name[-1]))
        elif name == "TUPLE":
            self._fold(len(self.stack) - self.marks.pop())
        elif name in {"REDUCE", "BUILD", "STACK_GLOBAL", "NEWOBJ"}:
            self._fold(2)
        elif name in {"APPEND", "APPENDS"}:
            items = self._since(name == "APPENDS", 1)
            self.stack[-1].extend(items)
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._since(name == "SETITEMS", 2)
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            raise ValueError(f"unexpected {name}")

    def _fold(self, count: int) -> None:
        parts = self._take(count)
        self.stack.append(tuple(parts))

    def _since(self, marked: bool, count: int) -> list[Any]:
        return self._take(len(self.stack) - self.marks.pop() if marked else count)

    def _take(self, count: int) -> list[Any]:
        parts = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return parts
