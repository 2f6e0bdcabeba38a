"""From encoded images to prepared pixels: decoded once, in parallel, every fault collected."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.images import BadImage, decode, to_tensor
from sightx.data.rows import Rows
from sightx.data.table import ImageTable, locate
from sightx.errors import PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.registry.components import Shape
from sightx.registry.kinds import Prepare

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]
Image = bytes | np.ndarray[Any, Any]

_LIMIT = Path("/sys/fs/cgroup/memory.max")
_TRACE = "error.log has the traceback, --debug shows it"


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


def apply(image: Image, chain: Sequence[Prepare]) -> Tensor:
    """Return one prepared image, uint8 (C, H, W). Raises BadImage, or PluginError for a bug."""
    tensor = to_tensor(decode(image) if isinstance(image, bytes) else _owned(image))
    for prepare in chain:
        tensor = _step(prepare, tensor)
    return tensor


def _owned(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a copy of pixels that came without a file, so that nobody changes the dataset's."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadImage(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (H, W, 3)")
    return np.array(pixels, order="C")


def _step(prepare: Prepare, image: Tensor) -> Tensor:
    """Return an image after one component, which must give what it declares."""
    import torch

    declared = prepare.shape(Shape(*image.shape))
    try:
        result = prepare.apply(image)
        shape = tuple(result.shape)
        kept = len(shape) == 3 and all(
            want in (None, got) for want, got in zip(declared, shape, strict=True)
        )
    except (SightXError, MemoryError):
        raise
    except Exception as error:
        raise _blame(prepare, f"{type(error).__name__}: {error}") from error
    if not kept or result.dtype != torch.uint8:
        found = f"{result.dtype} {shape}"
        raise _blame(prepare, f"gave {found}, not uint8 {tuple(declared)}")
    return result


def _blame(prepare: Prepare, message: str) -> PluginError:
    return PluginError(Problem("prepare-failed", message, _TRACE, f"prepare.{prepare.name}"))


def fill(
    table: ImageTable,
    chain: Sequence[Prepare],
    *,
    threads: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare every image of a table; the result does not depend on the number of threads.

    `progress` hears (done, of), from the thread that calls. Raises PluginError, naming the image,
    for a component that fails; an interrupt waits for no more images than there are threads.
    """
    pixels = _room((len(table), *output_shape(chain)))
    digests, bad = [""] * len(table), dict[int, str]()

    def one(index: int) -> None:
        try:
            image = _read(table, index)
            digests[index] = _digest(image)
            pixels[index] = apply(image, chain)
        except (BadImage, OSError) as error:
            bad[index] = _reason(error)
        except PluginError as error:
            raise PluginError(
                *(_in(table, index, problem) for problem in error.problems)
            ) from error

    with _single_threaded(), ThreadPoolExecutor(threads or _cores()) as pool:
        try:
            for done, _ in enumerate(pool.map(one, range(len(table))), start=1):
                if progress:
                    progress(done, len(table))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for index in bad:
        pixels[index] = 0
    return Prepared(Rows.of(pixels), digests, dict(sorted(bad.items())))


def _read(table: ImageTable, index: int) -> Image:
    try:
        return table.read(index)
    except (BadImage, OSError, SightXError, MemoryError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise PluginError(Problem("read-failed", message, _TRACE, "dataset")) from error


def _digest(image: Image) -> str:
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _in(table: ImageTable, index: int, problem: Problem) -> Problem:
    """Return a problem with the image in which it came up."""
    message = f"{table.frame['path'].iat[index]}: {problem.message}"
    return replace(problem, message=message).at(table.source, table.line(index))


def absent(table: ImageTable) -> dict[int, str]:
    """Return why rows have no file that may be read: found without opening or decoding any."""
    if table.root is None:
        return {}
    home, found = os.path.realpath(table.root), dict[int, str]()
    for index, path in enumerate(table.frame["path"]):
        try:
            locate(home, path)
        except OSError as error:
            found[index] = _reason(error)
    return found


def _reason(error: BadImage | OSError) -> str:
    if isinstance(error, BadImage):
        return error.reason
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "missing" if missing else error.strerror or str(error)


def _room(shape: tuple[int, ...]) -> Tensor:
    """Return room for pixels: in memory, or in a scratch file where half of it would not do."""
    import torch

    size = int(np.prod(shape))
    if size < _memory() // 2:
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        message = f"prepared pixels need {size / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free"
        hint = "let TMPDIR name a larger disk, or prepare a smaller size"
        raise ResourceError(Problem("disk-full", message, hint))
    # The file has no name as soon as it is mapped: it goes when the last reader does.
    with tempfile.NamedTemporaryFile(prefix="sightx-") as file:
        file.truncate(size)
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)


def _memory() -> int:
    """Return how many bytes this process may have, those of a container where it is in one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or the word "max"
        memory = min(memory, int(_LIMIT.read_text()))
    return memory


def _cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
