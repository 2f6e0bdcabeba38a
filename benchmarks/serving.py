"""Compare `sightx serve` with servers as they are usually written, and print what is met.

    python benchmarks/serving.py --short [--litserve venv/bin/python] [--schemathesis venv/bin/st]

Needs `wrk`, `hey` and the extras `serve` and `onnx`; peer d needs a Python that has LitServe and
SightX's libraries, and random requests need schemathesis. About ten minutes with `--short`, else
twenty. Clients send JPEGs of 512 px over loopback, 1, 8 and 64 at a time (`--short`: 1 and 64).
Each peer has the number of torch threads (1 or 2) that is better for it with 8 clients. Rounds are
interleaved, medians are compared, and all servers but the measured one are stopped by SIGSTOP.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rounds import ROOT
from serving_requests import mixed_requests, write_bodies
from serving_servers import Server, train

NETWORKS = ("simple-cnn", "resnet50")
PEERS = "abcd"
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


class Row(NamedTuple):
    """A line of the table: a number, and the bar that it should reach or stay below."""

    name: str
    value: float
    bar: float
    is_at_least: bool = False

    def __str__(self) -> str:
        sign, is_met = ("<=", self.value <= self.bar)
        if self.is_at_least:
            sign, is_met = (">=", self.value >= self.bar)
        verdict = "met" if is_met else "NOT MET"
        return f"{self.name:<62} {self.value:>9.3f}   {sign} {self.bar:<8.4g} {verdict}"


class Loads(dict[tuple[str, int], list[Load]]):
    """The loads of each peer and number of clients, one per round."""

    def rate(self, peer: str, clients: int) -> float:
        """Return the median of answers per second; NaN, which meets no bar, if there are none."""
        return statistics.median(load.rate for load in self[peer, clients]) or math.nan

    def p99(self, peer: str, clients: int) -> float:
        """Return the median of the 99th percentile in seconds; NaN if there are no answers."""
        return statistics.median(load.p99 for load in self[peer, clients]) or math.nan

    def best(self, peers: Sequence[str], clients: int) -> float:
        """Return the rate of the best of some peers."""
        return max(self.rate(peer, clients) for peer in peers if (peer, clients) in self)


def load(server: Server, script: Path, clients: int, seconds: int) -> Load:
    """Let so many clients send photographs, each as soon as it has its answer."""
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script)]
    out = subprocess.run(
        [*words, server.url("v1/predict")], check=True, capture_output=True, text=True
    ).stdout
    result = json.loads(re.findall(r"^\{.*\}$", out, re.MULTILINE)[-1])
    answered = result["requests"] - result["failed"]
    if result["failed"] and not answered:
        raise SystemExit(f"{server.kind} answers no request")
    return Load(answered / result["seconds"], result["p99"], result["failed"])


@contextmanager
def probing(server: Server, times: list[float]) -> Iterator[None]:
    """Ask for the health every 50 ms, and collect how long each answer takes."""
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(0.05):
            start = time.perf_counter()
            with suppress(OSError):  # some peers do not answer while they compute
                urllib.request.urlopen(server.url(server.health), timeout=5).close()
            times.append(time.perf_counter() - start)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def overload(server: Server, body: Path, rate: float, seconds: float) -> tuple[float, float]:
    """Send `rate` requests per second whatever the answers; return goodput and p99 of refusals.

    Workers of hey wait for an answer, and those of one process send at the same time. So there are
    many, which have an answer long before their next turn, in many processes, which begin one after
    the other.
    """
    processes, workers = 64, 4
    period = processes * workers / rate
    words = ["hey", "-z", f"{3 * period + seconds:.3f}s", "-c", str(workers), "-q", f"{1 / period}",
             "-m", "POST", "-o", "csv", "-T", "image/jpeg", "-D", str(body),
             server.url("v1/predict")]  # fmt: skip

    def send(number: int) -> list[tuple[float, float, str]]:
        time.sleep(number * period / processes)
        start = time.monotonic()
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        rows = [line.split(",") for line in out.splitlines()[1:]]
        return [(start + float(row[7]), float(row[0]), row[6]) for row in rows]

    with ThreadPoolExecutor(processes) as pool:
        answers = [answer for part in pool.map(send, range(processes)) for answer in part]
    duration = max(at + took for at, took, _ in answers) - min(at for at, _, _ in answers)
    refused = [took for _, took, status in answers if status == "503"]
    good = sum(status == "200" for _, _, status in answers) / duration
    return good, float(np.quantile(refused, 0.99)) if refused else float("inf")


def measure(
    servers: dict[str, Server], scripts: dict[str, Path], options: argparse.Namespace
) -> tuple[Loads, list[float]]:
    """Return the loads of interleaved rounds, and the times of /livez of SightX."""
    loads, live = Loads(), list[float]()
    for _ in range(options.rounds):
        for peer, server in servers.items():
            with server.turn():
                load(server, scripts[server.kind], 8, 1)
                for clients in options.clients:
                    seconds = options.seconds * (2 if clients == 64 else 1)
                    with probing(server, live if server.kind == "sightx" else []):
                        result = load(server, scripts[server.kind], clients, seconds)
                    loads.setdefault((peer, clients), []).append(result)
    return loads, live


def start_peers(
    stack: ExitStack, run: Path, scripts: dict[str, Path], options: argparse.Namespace
) -> dict[str, Server]:
    """Start each peer with the number of threads that answers more requests of 8 clients."""
    servers = {}
    for peer in PEERS if options.litserve else PEERS[:-1]:
        rates = dict[Server, float]()
        for threads in (1, 2):
            server = stack.enter_context(Server.of_peer(peer, run, threads, options.litserve))
            with server.turn():
                load(server, scripts[peer], 8, 1)
                rates[server] = load(server, scripts[peer], 8, 2).rate
        servers[peer], worse = sorted(rates, key=lambda server: rates[server], reverse=True)
        worse.close()
        print(f"  {peer}: {1 + [*rates].index(servers[peer])} torch threads", flush=True)
    return servers


def compare(network: str, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Measure one network, print its loads, and return its rows of the table."""
    print(f"{network}:", flush=True)
    run, int8 = train(folder / network, network)
    scripts = {
        kind: _write_script(folder / f"{kind}.lua", *body)
        for kind, body in write_bodies(folder).items()
    }
    with ExitStack() as stack:
        servers = {"sightx": stack.enter_context(Server.of_sightx(run, "--queue", "256"))}
        if int8:
            words = ("--engine", "int8", "--queue", "256")
            servers["int8"] = stack.enter_context(Server.of_sightx(int8, *words))
        for server in servers.values():
            server.pause()
        servers |= start_peers(stack, run, scripts, options)
        loads, live = measure(servers, scripts, options)
    with Server.of_sightx(run, "--queue", "32") as server, probing(server, live):
        load(server, scripts["sightx"], 8, 1)
        capacity = loads.rate("sightx", 64)
        good, refusal = overload(server, folder / "raw", 2 * capacity, options.seconds)
    _print_loads(loads)
    return [
        *_rows(network, loads),
        Row(f"{network}: goodput / capacity at 200 % of it", good / capacity, 0.9, True),
        Row(f"{network}: refusals at 200 %, p99 in ms", 1000 * refusal, 20),
        Row(f"{network}: /livez throughout, p95 in ms", 1000 * float(np.quantile(live, 0.95)), 50),
    ]


def _write_script(file: Path, body: Path, content_type: str) -> Path:
    file.write_text(LUA.format(body=body, content_type=content_type))
    return file


def _print_loads(loads: Loads) -> None:
    print(f"  {'':<8} {'clients':>7} {'per second':>11} {'p99 ms':>8} {'failed':>7}")
    for (peer, clients), values in sorted(loads.items(), key=lambda item: item[0][::-1]):
        rate, p99 = loads.rate(peer, clients), 1000 * loads.p99(peer, clients)
        failed = sum(one.failed for one in values)
        print(f"  {peer:<8} {clients:>7} {rate:>11.1f} {p99:>8.1f} {failed:>7}", flush=True)


def _rows(network: str, loads: Loads) -> list[Row]:
    """Return the rows of throughput and latency."""
    own, p99 = loads.rate("sightx", 64), loads.p99("sightx", 64)
    failed = sum(load.failed for load in loads["sightx", 64])
    one = loads.rate("sightx", 1) / loads.best("abc", 1)
    rows = [Row(f"{network}: throughput of 1 client / best of a-c", one, 1.0, True)]
    bars = {"simple-cnn": (("a", 1.5), ("b", 1.5), ("abcd", 1.2)),
            "resnet50": (("b", 1.5), ("abc", 1.0))}  # fmt: skip
    for peers, bar in bars[network]:
        name = peers if len(peers) == 1 else f"best of {peers[0]}-{peers[-1]}"
        ratio = own / loads.best(peers, 64)
        rows.append(Row(f"{network}: throughput of 64 clients / {name}", ratio, bar, True))
    if ("int8", 64) in loads:
        ratio = loads.rate("int8", 64) / loads.rate("a", 64)
        rows.append(Row(f"{network} in int8: throughput of 64 clients / a", ratio, 2.0, True))
    return [
        *rows,
        Row(f"{network}: p99 of 64 clients / b", p99 / loads.p99("b", 64), 0.5),
        Row(f"{network}: p99 of 64 clients / (64 / own throughput)", p99 * own / 64, 1.25),
        Row(f"{network}: refusals of 64 clients", failed, 0),
    ]


def random_requests(server: Server, program: str, count: int) -> list[Row]:
    """Let schemathesis send requests that it makes up from the description of the interface."""
    folder = ROOT / "tests" / "serving"
    words = [program, "run", server.url("openapi.json"), "--no-color",
             "--phases", "coverage,fuzzing", "--max-examples", str(count * 7 // 20),
             "--checks", "not_a_server_error"]  # fmt: skip
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        words, env=os.environ | hooks, cwd=server.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    cases = re.search(r"(\d+) generated", done.stdout)
    if cases is None:
        raise SystemExit(done.stdout + done.stderr)
    return [
        Row("random requests", float(cases[1]), count, True),
        Row("random requests that failed the server", float(done.returncode != 0), 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="Fewer clients and rounds.")
    parser.add_argument("--seconds", type=int, help="Of one load; 64 clients send twice as long.")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int, default=10_000, help="Mixed requests.")
    parser.add_argument("--random", type=int, default=2_000, help="Requests of schemathesis.")
    parser.add_argument("--litserve", default="", help="A Python that has LitServe: peer d.")
    parser.add_argument("--schemathesis", default=shutil.which("schemathesis") or "")
    options = parser.parse_args()
    options.clients = (1, 64) if options.short else (1, 8, 64)
    options.seconds = options.seconds or (3 if options.short else 4)
    options.rounds = options.rounds or (2 if options.short else 3)
    if missing := [name for name in ("wrk", "hey") if not shutil.which(name)]:
        raise SystemExit(f"{' and '.join(missing)} must be installed")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SIGHTX_CACHE"] = str(folder / "cache")
        rows = [row for network in NETWORKS for row in compare(network, folder, options)]
        run = next((folder / "simple-cnn" / "runs").iterdir())
        with Server.of_sightx(run, "--queue", "80") as server:
            answers = mixed_requests(server.port, server.pid, run, options.requests)
            rows += [
                Row("mixed requests: growth of memory in MB", answers.growth, 20),
                Row("mixed requests: lost", answers.lost, 0),
                Row("mixed requests: mixed up", answers.mixed_up, 0),
            ]
            if options.schemathesis:
                rows += random_requests(server, options.schemathesis, options.random)
    print(*rows, sep="\n")
    print(f"{time.monotonic() - start:.0f} s; Python {sys.version.split()[0]}")
    if not options.litserve:
        print("without --litserve, peer d is missing")
    if not options.schemathesis:
        print("without schemathesis, no random requests were sent")


if __name__ == "__main__":
    main()
