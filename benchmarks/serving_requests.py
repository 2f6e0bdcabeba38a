"""What the clients of benchmarks/serving.py send: photographs, and a mixture of good and bad.

python benchmarks/serving_requests.py RUN PORT PID [COUNT]     # of a server of that run
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

CLIENTS = 64
IMAGES = 200
TOLERANCE = 2e-5  # of a probability: batches change its last digits
HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n"
)
FORM = "multipart/form-data; boundary=x"


def photograph(seed: int = 0, size: int = 512) -> bytes:
    """Return a JPEG that compresses like a photograph."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size // 11 + 2, size // 11 + 2, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def form(image: bytes) -> bytes:
    """Return a form with an image, as browsers write it."""
    return HEAD + image + b"\r\n--x--\r\n"


def write_bodies(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write what is sent to each peer, the photograph or a form; return files and media types."""
    image = photograph()
    (folder / "raw").write_bytes(image)
    (folder / "form").write_bytes(form(image))
    raw, as_form = (folder / "raw", "image/jpeg"), (folder / "form", FORM)
    return {"sightx": raw, "a": raw, "b": as_form, "c": as_form, "d": as_form}


class Answers(NamedTuple):
    """What came of mixed requests: by status, and megabytes that the server has grown."""

    counts: dict[str, int]
    lost: int
    mixed_up: int
    growth: float


def mixed_requests(port: int, pid: int, run: Path, count: int) -> Answers:
    """Send images of which each has its answer, and damaged, wrong and abandoned requests.

    The growth of memory is that of process `pid` after the first tenth of `count` requests.
    """
    import sightx

    predictor = sightx.Predictor.load(run, "cpu")
    images = [photograph(seed, 40 + seed) for seed in range(IMAGES)]
    expected = [_probabilities(predictor.predict(image).to_json()) for image in images]
    client = _Clients(port, pid, images, expected, count)
    asyncio.run(client.run())
    growth = client.memory[-1] - client.memory[0]
    answers = Answers(client.counts, client.lost, client.mixed_up, growth)
    print(f"mixed requests: {client.counts}, memory {client.memory} MB", flush=True)
    return answers


def _probabilities(record: dict[str, Any]) -> list[float]:
    return [share["probability"] for share in record["probabilities"]]


class _Clients:
    """Sixty-four clients, each with a connection."""

    def __init__(
        self, port: int, pid: int, images: list[bytes], expected: list[list[float]], count: int
    ) -> None:
        self.counts: dict[str, int] = {}
        self.lost = self.mixed_up = 0
        self.memory: list[float] = []
        self._port, self._pid, self._count = port, pid, count
        self._images, self._expected, self._sent = images, expected, 0

    async def run(self) -> None:
        """Send all requests."""
        await asyncio.gather(*map(self._client, range(CLIENTS)))
        self.memory.append(self._resident())

    async def _client(self, number: int) -> None:
        rng, connection = random.Random(number), None
        while self._sent < self._count:
            self._sent += 1
            if self._sent == self._count // 10:
                self.memory.append(self._resident())
            connection = connection or await asyncio.open_connection("127.0.0.1", self._port)
            if not await self._exchange(rng, *connection):
                connection[1].close()
                connection = None

    async def _exchange(
        self, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send one request; return whether the connection can be used again."""
        position, kind = rng.randrange(len(self._images)), rng.random()
        image = self._images[position]
        body, path, media_type = image, "/v1/predict", "image/jpeg"
        if kind < 0.25:
            body, path, media_type = [
                (image[:-200], path, media_type), (b"junk", path, media_type),
                (image, path, "text/plain"), (image, "/v1/explain", media_type),
                (form(image)[:-9], path, FORM),
            ][int(20 * kind)]  # fmt: skip
        elif kind < 0.5:
            body, media_type = form(image), FORM
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if kind > 0.97:
            self._count_answer("abandoned")
            return False
        try:
            answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode()
            length = int(re.findall(r"content-length: (\d+)", answer)[0])
            content = await reader.readexactly(length)
        except (OSError, TimeoutError, EOFError):
            self.lost += 1
            return False
        status = answer.split()[1]
        self._count_answer(status)
        if status == "200" and path == "/v1/predict":
            self.mixed_up += not self._is_expected(json.loads(content), position)
        return "connection: close" not in answer

    def _is_expected(self, record: dict[str, Any], position: int) -> bool:
        pairs = zip(_probabilities(record), self._expected[position], strict=True)
        return all(abs(actual - expected) < TOLERANCE for actual, expected in pairs)

    def _count_answer(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def _resident(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


if __name__ == "__main__":
    run, port, pid, *count = sys.argv[1:]
    print(mixed_requests(int(port), int(pid), Path(run), int(*count or ["10000"])))
