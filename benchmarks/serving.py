"""Compare `sightx serve` with servers as they are usually written; about ten minutes per network.

    python benchmarks/serving.py [--network simple-cnn] [--seconds 3] [--rounds 3]
    LITSERVE_PYTHON=venv/bin/python python benchmarks/serving.py     # LitServe as peer d, too

Needs `wrk` and the extra `serve`. Clients send JPEGs of 512 px over loopback, 1, 8 and 64 at a
time; each peer has the number of torch threads (1 or 2) that is better for it with 8 clients.
Rounds are interleaved, and medians compared. Targets: with 1 client at least the best of a to c;
with 64 clients and simple-cnn 1.5 times a and b, 1.2 times the best; with resnet50 1.5 times b,
and at least the best of a to c; the 99th percentile at 64 clients at most half of b's and at most
1.25 x 64 / own throughput; /livez within 50 ms (95 %); with twice the load that the server bears,
90 % of its capacity answered, and refusals within 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rounds import ROOT

CLIENTS = (1, 8, 64)
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
LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
wrk.headers["Content-Type"] = "{content_type}"
done = function(summary, latency)
  io.write(string.format('{{"seconds": %f, "requests": %d, "failed": %d, "p99": %f}}\\n',
    summary.duration / 1e6, summary.requests,
    summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.write,
    latency:percentile(99) / 1e6))
end
"""


class Load(NamedTuple):
    """What wrk has measured: answers per second, the 99th percentile in seconds, failures."""

    rate: float
    p99: float
    failed: int


def photograph() -> bytes:
    """Return a JPEG of 512 px that compresses like a photograph."""
    import io

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def train(folder: Path, network: str) -> Path:
    """Return the directory of a run of the network, trained on eight images."""
    import sightx

    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((64, 64, 3), 50 * number + 90 * (name == "b"), np.uint8)
                pixels[0, 0] = len(split)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{number}.png")
    (folder / "spec.toml").write_text(SPEC.format(network=network, settings=SETTINGS[network]))
    return sightx.run(sightx.load(folder / "spec.toml"), runs=folder / "runs").directory


@contextmanager
def server(peer: str, run: Path, threads: int) -> Iterator[int]:
    """Run a server, and yield its port when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    python = os.environ.get("LITSERVE_PYTHON", "") if peer == "d" else sys.executable
    own = ["-m", "sightx", "serve", str(run), "--port", str(port), "--queue", "256"]
    other = [str(ROOT / "benchmarks/serving_peers.py"), peer, str(run), str(threads), str(port)]
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [python, *(own if peer == "sightx" else other)], env=os.environ | variables,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    path = {"sightx": "readyz", "d": "health"}.get(peer, "livez")
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{peer} does not start") from None
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def load(port: int, script: Path, clients: int, seconds: float) -> Load:
    """Let so many clients send photographs, each as soon as it has its answer."""
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script)]
    url = f"http://127.0.0.1:{port}/v1/predict"
    out = subprocess.run([*words, url], check=True, capture_output=True, text=True).stdout
    result = json.loads(re.findall(r"^\{.*\}$", out, re.MULTILINE)[-1])
    answered = result["requests"] - result["failed"]
    return Load(answered / result["seconds"], result["p99"], result["failed"])


def scripts(folder: Path) -> dict[str, Path]:
    """Write what wrk sends to each peer: the photograph, or a form with it."""
    image = photograph()
    head = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n"
    )
    bodies = {
        "raw": (image, "image/jpeg"),
        "form": (head + image + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    }
    files = {}
    for name, (body, content_type) in bodies.items():
        (folder / name).write_bytes(body)
        files[name] = folder / f"{name}.lua"
        files[name].write_text(LUA.format(body=folder / name, content_type=content_type))
    raw, form = files["raw"], files["form"]
    return {"sightx": raw, "a": raw, "b": form, "c": form, "d": form}


@contextmanager
def probing(port: int, times: list[float]) -> Iterator[None]:
    """Ask /livez every 50 ms, and collect how long each answer takes."""
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(0.05):
            start = time.perf_counter()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=30).close()
            times.append(time.perf_counter() - start)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def overload(port: int, folder: Path, rate: float) -> tuple[float, float]:
    """Send `rate` requests per second whatever the answers; return goodput and p99 of refusals."""
    words = ["hey", "-z", "5s", "-c", "50", "-q", f"{rate / 50:.3f}", "-m", "POST", "-o", "csv",
             "-T", "image/jpeg", "-D", str(folder / "raw")]  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1/predict"
    out = subprocess.run([*words, url], check=True, capture_output=True, text=True).stdout
    rows = [line.split(",") for line in out.splitlines()[1:]]
    refused = [float(row[0]) for row in rows if row[6] == "503"]
    good = sum(row[6] == "200" for row in rows) / max(float(row[7]) + float(row[0]) for row in rows)
    return good, float(np.quantile(refused, 0.99)) if refused else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=SETTINGS, default="simple-cnn")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed")
    peers = ["a", "b", "c", *(["d"] if os.environ.get("LITSERVE_PYTHON") else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, files = train(folder, options.network), scripts(folder)
        threads = {"sightx": os.cpu_count() or 1}
        for peer in peers:
            rates = {}
            for count in (1, 2):
                with server(peer, run, count) as port:
                    load(port, files[peer], 8, 1)
                    rates[count] = load(port, files[peer], 8, options.seconds).rate
            threads[peer] = max(rates, key=lambda count: rates[count])
        print(f"{options.network}; torch threads: {threads}", flush=True)
        measure(options, run, folder, files, threads)


def measure(
    options: argparse.Namespace,
    run: Path,
    folder: Path,
    files: dict[str, Path],
    threads: dict[str, int],
) -> None:
    """Print rates and percentiles, in interleaved rounds; each server runs only in its turn."""
    loads: dict[tuple[str, int], list[Load]] = {}
    live: list[float] = []
    for number in range(options.rounds):
        for peer, count in threads.items():
            with server(peer, run, count) as port:
                load(port, files[peer], 8, 1)
                for clients in CLIENTS:
                    with probing(port, live if peer == "sightx" else []):
                        result = load(port, files[peer], clients, options.seconds)
                    loads.setdefault((peer, clients), []).append(result)
        print(f"round {number + 1} of {options.rounds}", flush=True)
    print(
        f"{'':<8} {'clients':>7} {'per second':>11} {'times own':>10} {'p99 ms':>8} {'failed':>7}"
    )
    rates = {key: statistics.median(one.rate for one in values) for key, values in loads.items()}
    for (peer, clients), values in sorted(loads.items(), key=lambda item: item[0][::-1]):
        ratio = rates["sightx", clients] / rates[peer, clients]
        p99 = 1000 * statistics.median(one.p99 for one in values)
        failed = sum(one.failed for one in values)
        rate = rates[peer, clients]
        print(f"{peer:<8} {clients:>7} {rate:>11.1f} {ratio:>10.2f} {p99:>8.1f} {failed:>7}")
    print(f"/livez, 95 %: {1000 * float(np.quantile(live, 0.95)):.1f} ms")
    capacity = rates["sightx", 64]
    print(f"64 / own throughput: {64000 / capacity:.1f} ms")
    if shutil.which("hey"):
        with server("sightx", run, threads["sightx"]) as port:
            load(port, files["sightx"], 8, 1)
            good, refusal = overload(port, folder, 2 * capacity)
        share, milliseconds = good / capacity, 1000 * refusal
        print(f"twice the load: {share:.2f} of capacity, refusals in {milliseconds:.1f} ms")


if __name__ == "__main__":
    main()
