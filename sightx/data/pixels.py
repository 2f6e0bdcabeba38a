"""From encoded images to prepared pixels: decoded once, in parallel, every fault collected."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.images import BadImage, decode, to_tensor
from sightx.data.rows import Rows
from sightx.data.table import ImageTable
from sightx.errors import Problem, SpecError
from sightx.registry.components import Shape
from sightx.registry.kinds import Prepare

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Hold prepared pixels, a digest of each image's content, and why some have none.

    `bad` maps the positions of images that could not be read to the reason; their pixels are zero.
    """

    rows: Rows
    digests: list[str]
    bad: dict[int, str]


def output_shape(chain: Sequence[Prepare]) -> tuple[int, int, int]:
    """Return the one (C, H, W) that a chain ends in. Raises SpecError where it does not."""
    shape = Shape(3, None, None)
    for prepare in chain:
        shape = prepare.shape(shape)
    if shape.height is None or shape.width is None:
        message = "the chain does not end in one size"
        raise SpecError(Problem("no-size", message, "end it with resize or center-crop", "prepare"))
    return shape.channels, shape.height, shape.width


def apply(image: bytes | np.ndarray[Any, Any], chain: Sequence[Prepare]) -> Tensor:
    """Return one prepared image, uint8 (C, H, W). Raises BadImage."""
    pixels = decode(image) if isinstance(image, bytes) else image
    tensor = to_tensor(pixels)
    for prepare in chain:
        tensor = prepare.apply(tensor)
    return tensor


def fill(
    table: ImageTable, chain: Sequence[Prepare], *, threads: int = 0, progress: Progress | None = None
) -> Prepared:
    """Prepare every image of a table; `progress` hears (done, of). The result knows no order."""
    pixels = _room((len(table), *output_shape(chain)))
    digests, bad = [""] * len(table), dict[int, str]()

    def one(index: int) -> None:
        try:
            image = table.read(index)
            digests[index] = hashlib.sha256(image).hexdigest()
            pixels[index] = apply(image, chain)
        except (BadImage, OSError) as error:
            bad[index] = _reason(error)

    with _single_threaded(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(one, range(len(table))), start=1):
            if progress:
                progress(done, len(table))
    for index in bad:
        pixels[index] = 0
    return Prepared(Rows(pixels, np.arange(len(table))), digests, dict(sorted(bad.items())))


def missing(table: ImageTable) -> dict[int, str]:
    """Return the rows whose file is not there, without decoding any."""
    if table.root is None:
        return {}
    paths = enumerate(table.frame["path"])
    return {index: "missing" for index, path in paths if not (table.root / path).is_file()}


def _reason(error: Exception) -> str:
    if isinstance(error, BadImage):
        return error.reason
    return "missing" if isinstance(error, FileNotFoundError) else str(error.strerror or error)  # type: ignore[attr-defined]


def _room(shape: tuple[int, ...]) -> Tensor:
    """Return room for pixels: in memory, or in a scratch file where half of it would not do."""
    import torch

    size = int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size < memory // 2:
        return torch.empty(shape, dtype=torch.uint8)
    # The file has no name as soon as it is mapped: it goes when the last reader does.
    with tempfile.NamedTemporaryFile(prefix="sightx-") as file:
        file.truncate(size)
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Keep torch from starting threads inside each thread of the pool."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
