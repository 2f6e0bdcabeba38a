"""From encoded images to prepared pixels: decoded in parallel, in order, every fault named."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.decode.decoder import BadImage, decode, to_tensor
from sightx.errors import PluginError, Problem, SightXError, SpecError
from sightx.io import system
from sightx.records.table import ImageTable
from sightx.registry.components import Shape
from sightx.registry.kinds import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

ProgressCallback = Callable[[int, int], None]
Image = bytes | np.ndarray[Any, Any]

_TRACE = "error.log has the traceback, --debug shows it"
_TOGETHER = 250_000  # bytes of rows that a thread makes in one go: handing over costs too


def output_shape(
    chain: Sequence[Preprocess], given: tuple[int, int, int] | None = None
) -> tuple[int, int, int]:
    """Return the one (C, H, W) that a chain ends in; `given` is what all images have, if one.

    Raises SpecError where there is no one size.
    """
    shape = Shape(*given) if given else Shape(3, None, None)
    for prepare in chain:
        shape = prepare.shape(shape)
    if shape.height is None or shape.width is None:
        message = "the chain does not end in one size"
        raise SpecError(
            Problem("no-size", message, "end it with resize or center-crop", "preprocess")
        )
    return shape.channels, shape.height, shape.width


def preprocess_image(
    image: Image,
    chain: Sequence[Preprocess],
    least: tuple[int, int] | None = None,
    channels: int = 3,
) -> Tensor:
    """Return one prepared image, uint8 (C, H, W). Raises BadImage, or PluginError for a bug.

    A file may be reduced while it is decoded, as long as it keeps `least`, (height, width). Pixels
    without a file must have so many `channels`.
    """
    if isinstance(image, bytes):
        tensor = to_tensor(decode(image, least=least))
    else:
        tensor = to_tensor(_owned(image, channels))
    for prepare in chain:
        tensor = _step(prepare, tensor)
    return tensor


def _owned(pixels: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """Return a copy of pixels that came without a file, so that nobody changes the dataset's."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels:
        raise BadImage(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (H, W, {channels})")
    return np.array(pixels, order="C")


def _step(prepare: Preprocess, image: Tensor) -> Tensor:
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


def _blame(prepare: Preprocess, message: str) -> PluginError:
    return PluginError(Problem("preprocess-failed", message, _TRACE, f"preprocess.{prepare.name}"))


@dataclass(frozen=True)
class PreprocessedImage:
    """Say what became of the image of one row of a table.

    `reason` is why it cannot be used; `row` is uint8 (C, H, W), None where it was not wanted.
    """

    index: int
    digest: bytes = b""
    row: np.ndarray[Any, Any] | None = None
    crc: int = 0
    reason: str = ""


def _everything(digest: bytes) -> bool:
    return True


@dataclass(frozen=True)
class Preprocessor:
    """Make the rows of a table's images; those whose content is not `wanted` are only read."""

    table: ImageTable
    chain: tuple[Preprocess, ...]
    least: tuple[int, int] | None = None
    wanted: Callable[[bytes], bool] = _everything

    def make(self, index: int) -> PreprocessedImage:
        """Return what becomes of one image. Raises PluginError, naming it, for a bug."""
        digest = b""
        try:
            image = read_image(self.table, index)
            digest = self._digest(index, image)
            if not self.wanted(digest):
                return PreprocessedImage(index, digest)
            made = preprocess_image(image, self.chain, self.least, self.table.channels)
            row = np.ascontiguousarray(made.numpy())
            return PreprocessedImage(index, digest, row, zlib.crc32(row.data))
        except (BadImage, OSError) as error:
            return PreprocessedImage(index, digest, reason=failure_reason(error))
        except PluginError as error:
            named = (_in(self.table, index, problem) for problem in error.problems)
            raise PluginError(*named) from error

    def all(
        self, indices: np.ndarray[Any, Any], threads: int
    ) -> Generator[PreprocessedImage, None, None]:
        """Yield what becomes of images, in order; few are made before they are asked for.

        Who stops early closes the iterator: it waits for what each thread does just then.
        """
        _, *size = output_shape(self.chain, self.table.shape)
        at_once = max(1, min(16, _TOGETHER // (3 * size[0] * size[1])))
        waiting: deque[Future[list[PreprocessedImage]]] = deque()
        with decode_pool(threads) as pool:
            try:
                for start in range(0, len(indices), at_once):
                    some = indices[start : start + at_once].tolist()
                    waiting.append(pool.submit(self._several, some))
                    if len(waiting) >= 3 * (threads or system.cpu_count()):
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _several(self, indices: list[int]) -> list[PreprocessedImage]:
        return [self.make(index) for index in indices]

    def _digest(self, index: int, image: Image) -> bytes:
        """Return the hash of an image's content, which must be the one its dataset knows."""
        found = content_hash(image)
        named = self.table.hashes
        if named is not None and named[index] not in ("", found.hex()):
            raise BadImage("its content is not what the dataset's index says")
        return found


def content_hash(image: Image) -> bytes:
    """Return the SHA-256 of a file's bytes, or of pixels and their shape."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def decode_pool(threads: int = 0) -> ThreadPoolExecutor:
    """Return a pool of so many threads, 0 for one a core; torch starts none inside of them."""
    import torch

    def alone() -> None:
        torch.get_num_threads()  # a thread that torch has not met would forget what is set
        torch.set_num_threads(1)

    count, mine = threads or system.cpu_count(), torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "sightx", alone)
    ready = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(ready.wait)  # all have begun, before this thread counts again as it did
        ready.wait()
    except BaseException:  # a thread cannot start, or somebody does not want to wait
        ready.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    torch.set_num_threads(mine)
    return pool


def read_image(table: ImageTable, index: int) -> Image:
    """Return one image of a table. Raises BadImage, OSError, or PluginError for a bug."""
    try:
        return table.read(index)
    except (BadImage, OSError, SightXError, MemoryError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise PluginError(Problem("read-failed", message, _TRACE, "dataset")) from error


def _in(table: ImageTable, index: int, problem: Problem) -> Problem:
    """Return a problem with the image in which it came up."""
    message = f"{table.frame['path'].iat[index]}: {problem.message}"
    return replace(problem, message=message).at(table.source, table.line(index))


def failure_reason(error: BadImage | OSError) -> str:
    """Return why an image cannot be used, as a phrase."""
    if isinstance(error, BadImage):
        return error.reason
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "missing" if missing else error.strerror or str(error)
