"""How schemathesis makes images up: photographs, cut ones, and bytes that are not images.

SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=tests/serving schemathesis run URL/openapi.json
"""

from __future__ import annotations

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def images(kind: str) -> st.SearchStrategy[bytes]:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((60, 48)).save(buffer, kind)
    image = buffer.getvalue()
    cut = st.integers(0, len(image)).map(lambda length: image[:length])
    return st.one_of(st.just(image), cut, st.binary(max_size=200))


schemathesis.openapi.media_type("image/png", images("PNG"))
schemathesis.openapi.media_type("image/jpeg", images("JPEG"))
