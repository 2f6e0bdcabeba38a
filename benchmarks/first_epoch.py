"""Time the first epoch's data path against ImageFolder and DataLoader, in the same run.

    python benchmarks/first_epoch.py [--rounds 5] [--images 100] [--threads 2] [--stages]

Files: JPEGs of 3000x2000 pixels, quality 90: a disc on black, filled with detail of every size
(amplitudes fall with frequency to the power of 1.4), so that the files are as large as retina
photographs of EyePACS at that size and quality (0.44 to 0.69 MB). SightX, with two threads,
reads, hashes, decodes, resizes to 512x512 and writes rows with checksums into a new cache, as
`sightx prepare` does. The peer is torchvision's ImageFolder, Resize and PILToTensor in a
DataLoader with as many workers, once as it is and once with raised trim and mmap thresholds of
glibc, on which its speed depends. Each case runs in a separate process; importing is not counted.
Targets: 4 times the plain peer and 3 times the tuned one; with exact decoding 2.8 and 2 times.

`--stages` prints the time of each stage in one thread instead.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rounds import medians, table

SIZE, WIDTH, HEIGHT, SCENES = 512, 3000, 2000, 8
THRESHOLDS = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
PLAIN, TUNED = "ImageFolder, DataLoader", "ImageFolder, DataLoader, glibc tuned"


def scene(seed: int) -> bytes:
    """Return a synthetic photograph as a JPEG."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH))
    frequency[0, 0] = np.inf

    def layer() -> np.ndarray:
        noise = rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
        values = np.fft.irfft2(np.fft.rfft2(noise) / frequency**1.4, (HEIGHT, WIDTH))
        return values / values.std()

    light = layer()
    pixels = np.stack([120 + 45 * light + 15 * layer() for _ in range(3)], axis=-1)
    pixels += rng.normal(0, 2, pixels.shape)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels *= np.hypot(y - HEIGHT / 2, x - WIDTH / 2)[..., None] < 0.48 * HEIGHT
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(folder: Path, count: int) -> None:
    """Write images of two classes; a comment makes all files different, so that none is shared."""
    scenes = [scene(seed) for seed in range(min(count, SCENES))]
    for number in range(count):
        data = scenes[number % len(scenes)]
        comment = b"\xff\xfe\x00\x0a%08d" % number
        path = folder / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:2] + comment + data[2:])
    size = sum(path.stat().st_size for path in folder.rglob("*.jpg")) / count / 1e6
    print(f"{count} JPEGs of {WIDTH}x{HEIGHT}, {size:.2f} MB each\n")


def peer(folder: Path, threads: int) -> float:
    """Return the seconds of an epoch of the DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    change = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.PILToTensor()])
    loader = DataLoader(ImageFolder(folder, change), batch_size=32, num_workers=threads)
    started = time.perf_counter()
    for batch, _ in loader:
        assert batch.shape[1:] == (3, SIZE, SIZE)
    return time.perf_counter() - started


def sightx(folder: Path, threads: int, decode: str) -> float:
    """Return the seconds that building the pixel cache takes."""
    import torch  # noqa: F401 - else the first image would import it, within the measured time

    from sightx.builtin.datasets.folder import ImageFolder
    from sightx.builtin.preprocess import Resize
    from sightx.data.dataset import CacheConfig, PreprocessJob, load_table, preprocess_checked

    dataset = ImageFolder(root=folder, layout="flat", decode=decode)
    with tempfile.TemporaryDirectory() as name:
        config = CacheConfig("disk", Path(name) / "cache", threads=threads)
        table = load_table(dataset)
        bad_images_csv = Path(name) / "bad-images.csv"
        started = time.perf_counter()
        job = PreprocessJob(table, (Resize(size=SIZE),), decode)
        pixels = preprocess_checked(job, dataset, config, bad_images_csv=bad_images_csv)
        seconds = time.perf_counter() - started
        assert pixels.rows.shape == (3, SIZE, SIZE)
        assert len(pixels.rows) == len(table)
    return seconds


def stages(folder: Path) -> None:
    """Print the median milliseconds of each stage over the images, in one thread."""
    import zlib

    import torch

    from sightx.builtin.preprocess import Resize
    from sightx.data.decode.decoder import decode, min_decoded_size, to_tensor
    from sightx.data.preprocess import content_hash

    torch.set_num_threads(1)
    chain = (Resize(size=SIZE),)
    for name in ("scaled", "exact"):
        min_size, spent = min_decoded_size(chain, name), {}

        def timed(
            stage: str, function: Callable, *args: object, spent: dict = spent, **kwargs: object
        ):
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent.setdefault(stage, []).append(time.perf_counter() - started)
            return result

        for path in sorted(folder.rglob("*.jpg")):
            data = timed("read", path.read_bytes)
            timed("sha256", content_hash, data)
            pixels = timed("decode", decode, data, min_size=min_size)
            tensor = timed("to tensor", to_tensor, pixels)
            row = timed("resize", chain[0].apply, tensor)
            row = timed("contiguous", np.ascontiguousarray, row.numpy())
            timed("crc32", zlib.crc32, row.data)
        print(f"{name:<12}" + "".join(f"{stage:>11}" for stage in [*spent, "sum"]))
        results = [1e3 * float(np.median(times)) for times in spent.values()]
        print(f"{'ms':<12}" + "".join(f"{ms:>11.2f}" for ms in [*results, sum(results)]))


CASES: dict[str, Callable[[Path, int], float]] = {
    "peer": peer,
    "scaled": partial(sightx, decode="scaled"),
    "exact": partial(sightx, decode="exact"),
}


def rate(case: str, folder: Path, count: int, threads: int, environment: dict[str, str]) -> float:
    """Return the images per second of a case, measured in a separate process."""
    command = [
        sys.executable,
        __file__,
        "--case",
        case,
        "--folder",
        str(folder),
        "--threads",
        str(threads),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return count / float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="of SightX; workers of the peer")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(CASES[arguments.case](arguments.folder, arguments.threads))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, count, threads = Path(name), arguments.images, arguments.threads
        write(folder, count)
        if arguments.stages:
            stages(folder)
            return
        cases = {
            PLAIN: partial(rate, "peer", folder, count, threads, {}),
            TUNED: partial(rate, "peer", folder, count, threads, THRESHOLDS),
            "SightX, scaled": partial(rate, "scaled", folder, count, threads, {}),
            "SightX, exact": partial(rate, "exact", folder, count, threads, {}),
        }
        results = medians(cases, arguments.rounds)
    print(table(results, PLAIN, "images/s", more_is_better=True), end="\n\n")
    print(table(results, TUNED, "images/s", more_is_better=True))


if __name__ == "__main__":
    main()
