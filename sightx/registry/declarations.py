"""What components answer from their settings alone, checked before the checks of a spec ask them.

A check that got a wrong answer would fail, and its own plugin would be named for the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sightx.records import SPLITS
from sightx.registry.components import Component, Shape, Traits, call_declared
from sightx.registry.kinds import Augment, Dataset, Metric, Model, Preprocess, Split
from sightx.registry.metric_results import metric_directions
from sightx.registry.results import short_repr, wrong_result

_SPLIT_HINT = f"return some of {', '.join(SPLITS)}, such as ('test',)"


def check_declarations(components: Iterable[Component], classes: Sequence[str]) -> None:
    """Raise PluginError, wrong-result, for the first wrong answer; `classes` are the dataset's."""
    for component in components:
        if isinstance(component, Metric):
            metric_directions(component, classes)
        elif isinstance(component, Split):
            _require(component.empty, _is_splits, _SPLIT_HINT)
        elif isinstance(component, Preprocess):
            size = Shape(3, None, None)
            _require(component.shape, _is_shape, "return Shape(channels, height, width)", size)
        elif isinstance(component, Augment):
            _require(component.mirrors, _is_bool, "return True or False")
        elif isinstance(component, Model):
            _require(component.parts, _is_parts, "return a list of names, or None")


def dataset_traits(dataset: Dataset) -> Traits:
    """Return what a dataset declares. Raises PluginError, wrong-result."""
    traits = call_declared(dataset.traits)
    if not isinstance(traits, Traits):
        raise wrong_result(dataset.traits, f"returned {short_repr(traits)}", "return Traits(...)")
    for name, names in (("classes", traits.classes or ()), ("columns", traits.columns)):
        if not (isinstance(names, tuple) and _is_names(names)):
            message = f"has the {name} {short_repr(names)}"
            raise wrong_result(dataset.traits, message, "use a tuple of texts")
    return traits


def _require(
    method: Callable[..., Any], is_valid: Callable[[Any], bool], hint: str, *arguments: Any
) -> None:
    answer = call_declared(method, *arguments)
    if not is_valid(answer):
        raise wrong_result(method, f"returned {short_repr(answer)}", hint)


def _is_names(value: Any) -> bool:
    is_collection = isinstance(value, Collection) and not isinstance(value, str)
    return is_collection and all(isinstance(name, str) for name in value)


def _is_parts(value: Any) -> bool:
    return value is None or (isinstance(value, Sequence) and _is_names(value))


def _is_splits(value: Any) -> bool:
    return _is_names(value) and set(value) <= set(SPLITS)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    return isinstance(value, Shape) and all(
        edge is None or (isinstance(edge, int) and edge > 0) for edge in value
    )
