"""PNG: separate metadata, which Pillow would read and may refuse."""

from __future__ import annotations

from sightx.data.decode.jpeg import EncodedImage

_SIGNATURE_SIZE = 8
_END = b"\0\0\0\0IEND\xaeB`\x82"


def inspect(data: bytes) -> EncodedImage:
    """Keep the chunks that decide about pixels, and the EXIF block for the orientation.

    Large profiles and texts, chunks of these with a wrong checksum, and animations are left out.
    """
    if _END not in data:
        return EncodedImage(data, is_complete=False)
    view = memoryview(data)
    kept: list[bytes | memoryview] = [view[:_SIGNATURE_SIZE]]
    exif, at = b"", _SIGNATURE_SIZE
    while at + 12 <= len(data):
        name = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if name[:1].isupper() or name == b"tRNS":  # upper case marks the critical chunks
            kept.append(view[at:end])
        elif name == b"eXIf":
            exif = exif or data[at + 8 : end - 4]
        if name == b"IEND":
            break
        at = end
    return EncodedImage(data, exif=exif, parts=tuple(kept))
