"""Receive the body of a request within limits of bytes and time, and find the images in it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from sightx.serving.errors import RequestError
from sightx.serving.service import Service

_MAX_PARTS = 4


@asynccontextmanager
async def received_images(
    request: Request, names: Sequence[str], service: Service
) -> AsyncIterator[dict[str, bytes]]:
    """Yield the encoded images of a request by name: its body, or the parts `names` of a form.

    The body alone is an image if one is wanted. Raises RequestError.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    is_form = content_type == b"multipart/form-data"
    if not is_form and not (len(names) == 1 and content_type.startswith(b"image/")):
        message = "" if content_type else "the header Content-Type is missing"
        hint = f"send a form with the parts {' and '.join(names)}" if len(names) > 1 else ""
        raise RequestError("unsupported_media_type", message, hint)
    if is_form and b"boundary" not in options:
        raise RequestError("bad_multipart")
    async with _body(request, service) as body:
        if is_form:
            yield _parse_form(body, options[b"boundary"], names)
        else:
            yield {names[0]: body}


@asynccontextmanager
async def _body(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Yield the body; its bytes count as held as long as it is in use."""
    settings = service.settings
    limit = settings.max_bytes
    too_large = RequestError("too_large", f"the body has more than {limit:,} bytes")
    length = request.headers.get("content-length", "0")
    if int(length) > limit:
        raise too_large
    received = bytearray()
    shortest, longest = settings.body_seconds
    try:
        async with service.time_limit(shortest, "slow_body") as timeout:
            start = asyncio.get_running_loop().time()
            async for chunk in request.stream():
                received += chunk
                service.held_bytes += len(chunk)
                if len(received) > limit:
                    raise too_large
                if service.held_bytes > settings.held_bytes:
                    raise RequestError("busy", retry_after=service.retry_after())
                seconds = max(shortest, min(longest, len(received) / settings.min_rate))
                timeout.reschedule(start + seconds)
        yield bytes(received)
    finally:
        service.held_bytes -= len(received)


def _content(part: Field | File) -> bytes:
    """Return the bytes of a part of a form."""
    if isinstance(part, Field):
        return part.value or b""
    part.file_object.seek(0)
    return part.file_object.read()


def _parse_form(body: bytes, boundary: bytes, names: Sequence[str]) -> dict[str, bytes]:
    """Return the parts with these names; others are ignored. Raises RequestError."""
    parts = dict[str, bytes]()
    count, is_complete = 0, False

    def add(part: Field | File) -> None:
        nonlocal count
        count += 1
        if count > _MAX_PARTS:
            raise RequestError("bad_multipart", f"the form has more than {_MAX_PARTS} parts")
        name = (part.field_name or b"").decode("latin-1")
        if name in parts:
            raise RequestError("two_images")
        if name in names:
            parts[name] = _content(part)

    def end() -> None:
        nonlocal is_complete
        is_complete = True

    try:
        # Files stay in memory: photographs of patients should not reach a disk.
        config = {"MAX_MEMORY_FILE_SIZE": math.inf}
        form = FormParser("multipart/form-data", add, add, end, boundary, config=config)
        form.write(body)
        form.finalize()
    except FormParserError as error:
        raise RequestError("bad_multipart") from error
    if not is_complete:
        raise RequestError("bad_multipart", "the end of the form is missing")
    for name in names:
        if name not in parts:
            raise RequestError("missing_part", f"the form has no part {name}")
    return {name: parts[name] for name in names}
