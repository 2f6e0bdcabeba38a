"""The servers of benchmarks/serving.py: processes that start, wait for their turn, and end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image
from rounds import ROOT

SPEC = """
name = "bench"
observer = []
[dataset]
use = "image-folder"
root = "data"
[[preprocess]]
use = "resize"
size = [224, 224]
[normalize]
use = "imagenet"
[model]
use = "{network}"
{settings}
[training]
epochs = 1
batch_size = 4
"""
SETTINGS = {
    "simple-cnn": "widths = [16, 32, 64]\nhidden = [64]",
    "resnet50": 'weights = "none"',
}


def train(folder: Path, network: str) -> tuple[Path, Path | None]:
    """Return the directory of a run of a network, and its export in int8; of ResNet50 alone."""
    import sightx
    from sightx.export.model import export_model

    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((64, 64, 3), 50 * number + 90 * (name == "b"), np.uint8)
                pixels[0, 0] = len(split)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{number}.png")
    (folder / "spec.toml").write_text(SPEC.format(network=network, settings=SETTINGS[network]))
    run = sightx.run(folder / "spec.toml", runs=folder / "runs", quiet=True)
    if network != "resnet50":
        return run.directory, None
    export_model(run, folder / "model", int8_loss=2.0)  # of accuracy: any loss
    return run.directory, folder / "model"


class Server:
    """A server in its own process group, on a free port of this machine."""

    def __init__(
        self, kind: str, words: Sequence[str], health: str, variables: Mapping[str, str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.kind = kind
        """What its clients send: that of sightx, or that of a peer."""
        self.folder = Path(tempfile.mkdtemp())
        with (self.folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [*words, str(self.port)], cwd=self.folder, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | variables, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self.health = health
        """Path of its health check."""
        self.wait(health)

    @classmethod
    def of_sightx(cls, model: Path, *options: str) -> Self:
        """Start `sightx serve`."""
        words = [sys.executable, "-m", "sightx", "serve", str(model), *options, "--port"]
        server = cls("sightx", words, "livez", {})
        server.wait("readyz")
        return server

    @classmethod
    def of_peer(cls, peer: str, run: Path, threads: int, litserve: str) -> Self:
        """Start a peer."""
        words = [sys.executable, "serving_peers.py", peer, str(run), str(threads)]
        if peer == "d":
            words = [litserve, "serving_litserve.py", str(run), str(threads)]
        words[1] = str(ROOT / "benchmarks" / words[1])
        health = "health" if peer == "d" else "livez"
        return cls(peer, words, health, {"OMP_NUM_THREADS": str(threads)})

    def wait(self, path: str) -> None:
        """Wait until a path is answered with success."""
        end = time.monotonic() + 120
        while True:
            with suppress(OSError):
                urllib.request.urlopen(self.url(path), timeout=2).close()
                return
            if self._process.poll() is not None or time.monotonic() > end:
                log = (self.folder / "log").read_text()
                self.close()
                raise SystemExit(f"{self.kind} does not start:\n{log}")
            time.sleep(0.2)

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def pause(self) -> None:
        """Stop all its processes, so that they take no time of others."""
        os.killpg(self.pid, signal.SIGSTOP)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let a paused server work."""
        os.killpg(self.pid, signal.SIGCONT)
        try:
            yield
        finally:
            time.sleep(1)  # for what wrk has left behind: a pause would count as time of a batch
            self.pause()

    def close(self) -> None:
        """End all its processes; a second call does nothing."""
        if not self.folder.exists():
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
