"""What a server allows, and whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Settings:
    """The limits of a server, its token, and the names that it answers to."""

    formats: ClassVar = ("image/jpeg", "image/png")
    """Media types of images."""
    token: str = ""
    """Requests must carry it; "" means that everyone may use the server."""
    hosts: frozenset[str] | None = None
    """Names that Host may have, in lower case and without a port; None means any."""
    max_batch: int = 8
    """The most images that the network computes at once."""
    max_bytes: int = 10_000_000
    """The largest body of a request."""
    max_pixels: int = 40_000_000
    """The most pixels that an image may have."""
    max_queue: int = 64
    """The most images that wait or are computed."""
    max_explanations: int = 4
    """The most explanations that wait or are computed."""
    held_bytes: int = 256_000_000
    """The most bytes of all bodies together."""
    timeout: float = 30.0
    """Seconds from the end of a body to the answer."""
    head_seconds: float = 5.0
    """Seconds from the first byte of a request, or from its connection, to the end of its head."""
    body_seconds: tuple[float, float] = (10.0, 60.0)
    """Seconds in which every body is received, however small, and however large."""
    min_rate: float = 64_000.0
    """Bytes per second that a body between these needs."""
    max_head: int = 32_000
    """The most bytes of a head."""
    max_connections: int = 1024
    """Further connections are closed at once."""
    drain_bytes: int = 64_000_000
    """The most bytes of a refused body that are read and thrown away."""
    drain_seconds: float = 5.0
    """For how long they are read."""
    grace: float = 30.0
    """Seconds for the requests that are being answered when the server stops."""
    delay: float = 0.0
    """Seconds for which a stopping server still listens, and refuses."""
