"""From encoded images to preprocessed pixels: in parallel, in order, every error named."""

from __future__ import annotations

import errno
import hashlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sightx.data.decode.decoder import FORMATS, PIXEL_LIMIT, BadImage, decode, to_tensor
from sightx.errors import PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.io import system
from sightx.records.table import EncodedOrPixels, ImageTable
from sightx.registry.components import Shape
from sightx.registry.kinds import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total)."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_NOT_OF_THE_IMAGE = {
    errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOBUFS,
    errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
_TRACEBACK_HINT = "error.log has the traceback, --debug shows it"
_TASK_BYTES = 250_000  # of rows that a thread makes per task, because handing over costs time too


def output_shape(
    chain: Sequence[Preprocess], input_shape: tuple[int, int, int] | None = None
) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a preprocessed image.

    `input_shape` is the shape that all images have before; None means RGB of any size. Raises
    SpecError if the chain does not end in one size.
    """
    shape = Shape(*input_shape) if input_shape else Shape(3, None, None)
    for component in chain:
        shape = component.shape(shape)
    if shape.height is None or shape.width is None:
        message = "the chain does not end in one size"
        hint = "end it with resize or center-crop"
        raise SpecError(Problem("no-size", message, hint, "preprocess"))
    return shape.channels, shape.height, shape.width


def preprocess_image(
    image: EncodedOrPixels,
    chain: Sequence[Preprocess],
    min_size: tuple[int, int] | None = None,
    *,
    channels: int = 3,
    formats: Sequence[str] = FORMATS,
    pixel_limit: int = PIXEL_LIMIT,
) -> Tensor:
    """Return one preprocessed image, uint8 (C, H, W).

    Args:
        image: The bytes of a file, or uint8 pixels (H, W, C).
        chain: The components to apply, in order.
        min_size: The (height, width) that decoding must keep; None means the full size.
        channels: The number of channels that pixels must have.
        formats: The formats of files that are decoded.
        pixel_limit: The largest number of pixels that a file may have.

    Raises BadImage, or PluginError for a component that fails.
    """
    if isinstance(image, bytes):
        pixels = decode(image, min_size=min_size, formats=formats, pixel_limit=pixel_limit)
    else:
        pixels = _copy(image, channels)
    tensor = to_tensor(pixels)
    for component in chain:
        tensor = _apply(component, tensor)
    return tensor


def _copy(pixels: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """Return a copy of a dataset's pixels, so that no component changes them in place."""
    is_image = pixels.ndim == 3 and pixels.shape[2] == channels and pixels.size
    if pixels.dtype != np.uint8 or not is_image:
        form = f"{pixels.dtype} {pixels.shape}"
        hint = "scale and select them in the dataset"
        raise BadImage(f"pixels are {form}, not uint8 (H, W, {channels}): {hint}")
    return np.array(pixels, order="C")


def _apply(component: Preprocess, image: Tensor) -> Tensor:
    """Return the image after one component, which must return what it declares."""
    import torch

    declared = component.shape(Shape(*image.shape))
    try:
        result = component.apply(image)
        shape = tuple(result.shape)
        is_declared = len(shape) == 3 and all(
            expected in (None, size) for expected, size in zip(declared, shape, strict=True)
        )
    except (SightXError, MemoryError):
        raise
    except Exception as error:
        raise _failure(component, f"{type(error).__name__}: {error}") from error
    if not isinstance(result, torch.Tensor):
        raise _failure(component, f"gave a {type(result).__name__}, not a tensor")
    if not is_declared or result.dtype != torch.uint8:
        raise _failure(component, f"gave {result.dtype} {shape}, not uint8 {tuple(declared)}")
    return result


def _failure(component: Preprocess, message: str) -> PluginError:
    path = f"preprocess.{component.name}"
    return PluginError(Problem("preprocess-failed", message, _TRACEBACK_HINT, path))


@dataclass(frozen=True)
class PreprocessedImage:
    """The result for one row of a table.

    `row` is uint8 (C, H, W) with the CRC-32 `crc`; None if it was not needed, or if the image is
    bad: then `reason` says why. `digest` is the SHA-256 of the image's content.
    """

    index: int
    digest: bytes = b""
    row: np.ndarray[Any, Any] | None = None
    crc: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Preprocessor:
    """Read and preprocess the images of a table.

    An image is decoded only if `is_needed` returns True for the SHA-256 of its content.
    """

    table: ImageTable
    chain: tuple[Preprocess, ...]
    min_size: tuple[int, int] | None = None
    is_needed: Callable[[bytes], bool] = lambda digest: True

    def process(self, index: int) -> PreprocessedImage:
        """Read and preprocess one image. Raises PluginError, naming the image, for a bug."""
        digest = b""
        try:
            image = read_image(self.table, index)
            digest = self._hash(index, image)
            if not self.is_needed(digest):
                return PreprocessedImage(index, digest)
            row = np.ascontiguousarray(self.make_row(image))
            return PreprocessedImage(index, digest, row, zlib.crc32(row.data))
        except (BadImage, OSError) as error:
            return PreprocessedImage(index, digest, reason=failure_reason(error))
        except PluginError as error:
            name, place = self.table.frame["path"].iat[index], self.table.place(index)
            raise PluginError(
                *(
                    replace(problem, message=f"{name}: {problem.message}").at(*place)
                    for problem in error.problems
                )
            ) from error

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """Return the shape of a row."""
        return output_shape(self.chain, self.table.shape)

    def make_row(self, image: EncodedOrPixels) -> np.ndarray[Any, Any]:
        """Return the row of an image, uint8 (C, H, W). Raises BadImage."""
        channels = self.table.channels
        return preprocess_image(image, self.chain, self.min_size, channels=channels).numpy()

    def process_all(
        self, indices: np.ndarray[Any, Any], threads: int
    ) -> Generator[PreprocessedImage, None, None]:
        """Yield the results for `indices`, in order; only a few are computed ahead.

        Closing the iterator early waits for the images that are in work.
        """
        _, height, width = self.row_shape
        task_size = max(1, min(16, _TASK_BYTES // (3 * height * width)))
        starts = range(0, len(indices), task_size)
        blocks = (indices[start : start + task_size].tolist() for start in starts)
        with decode_pool(threads) as pool:
            ahead = 3 * (threads or system.cpu_count())
            for images in map_in_order(pool, self._process_block, blocks, ahead):
                yield from images

    def _process_block(self, indices: list[int]) -> list[PreprocessedImage]:
        return [self.process(index) for index in indices]

    def _hash(self, index: int, image: EncodedOrPixels) -> bytes:
        """Return the hash of an image's content, which must be the one that its dataset knows."""
        digest, known = content_hash(image), self.table.hashes
        if known is not None and known[index] not in ("", digest.hex()):
            raise BadImage("its content is not what the dataset's index says")
        return digest


def content_hash(image: EncodedOrPixels) -> bytes:
    """Return the SHA-256 of a file's bytes, or of pixels and their shape."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def map_in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    ahead: int,
) -> Generator[_Result, None, None]:
    """Yield the results of a function in the order of its items; at most `ahead` are in work."""
    futures = deque[Future[_Result]]()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) >= ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def decode_pool(threads: int = 0) -> ThreadPoolExecutor:
    """Return a pool of threads, 0 for one per core, in which torch uses one thread each."""
    import torch

    def use_one_thread() -> None:
        torch.get_num_threads()  # a thread that torch does not know yet would forget the setting
        torch.set_num_threads(1)

    count, before = threads or system.cpu_count(), torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "sightx", use_one_thread)
    all_started = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(all_started.wait)  # so that the setting is restored after all have set it
        all_started.wait()
    except BaseException:  # a thread cannot start, or an interrupt
        all_started.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    torch.set_num_threads(before)
    return pool


def read_image(table: ImageTable, index: int) -> EncodedOrPixels:
    """Return one image of a table. Raises BadImage, OSError, or PluginError for a bug."""
    try:
        image = table.read(index)
        if not isinstance(image, bytes | np.ndarray):
            raise TypeError(f"read() returned a {type(image).__name__}, not bytes or an array")
        return image
    except (BadImage, OSError, SightXError, MemoryError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise PluginError(Problem("read-failed", message, _TRACEBACK_HINT, "dataset")) from error


def failure_reason(error: BadImage | OSError) -> str:
    """Return why an image cannot be used, as a phrase.

    Raises ResourceError for an error that says nothing about the image: it may pass.
    """
    if isinstance(error, BadImage):
        return error.reason
    if error.errno in _NOT_OF_THE_IMAGE:
        message = f"an image cannot be read: {error.strerror}"
        hint = "it is not counted as bad; try again when the disk or the memory is available"
        raise ResourceError(Problem("read-interrupted", message, hint, file=error.filename or ""))
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "missing" if missing else error.strerror or str(error)
