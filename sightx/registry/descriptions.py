"""What a field is for: the docstring below it, read when somebody asks.

pydantic would read them when it makes a class, and take longer for that than for all the rest.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class DescribedFields:
    """Answer to `model_fields` with the docstrings of the fields as their descriptions."""

    def __get__(self, instance: object, owner: type[BaseModel]) -> dict[str, FieldInfo]:
        """Return the fields of a class."""
        return described(owner)


@cache
def described(cls: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a class, each with its description."""
    fields: dict[str, FieldInfo] = cls.__pydantic_fields__
    for base in cls.__mro__:  # the nearest docstring of a field counts
        if not any(info.description is None for info in fields.values()) or base is BaseModel:
            break
        for key, text in _docstrings(base).items():
            if key in fields and fields[key].description is None:
                fields[key].description = text
    return fields


@cache
def _docstrings(cls: type) -> dict[str, str]:
    """Return the strings that stand below annotated names in the body of a class."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body: list[Any] = getattr(tree, "body", [])
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
