"""Source code of plugins for tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

COMPONENT = '''
from sightx.plugin import {kind}, hookimpl

class {title}({kind}):
    """{line}"""

    name = "{name}"

    def {method}(self):
        """Do nothing."""

@hookimpl
def sightx_components():
    return [{title}]
'''


@pytest.fixture
def component() -> Callable[..., str]:
    """Return the source of a module with one component."""

    def write(name: str, kind: str = "Model", line: str = "A third party's.") -> str:
        title = "".join(part.title() for part in name.split("-"))
        method = {"Dataset": "table", "Metric": "compute"}.get(kind, "build")
        return COMPONENT.format(name=name, kind=kind, title=title, line=line, method=method)

    return write
