"""One JSON Schema of all specs that the installed plugins can be named in.

Editors complete and check by it (`#:schema` in a spec). A kind's table is told apart by its `use`.
Below `extends` a table may leave out what its base says, so what is required stands apart from
what is allowed: each `NAME` has a `NAME.required` beside it. Arrays are never merged with a
base's, so their items always need both.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticCustomError, core_schema

from sightx.registry.components import Component, Settings
from sightx.registry.kinds import KINDS
from sightx.registry.registry import Entry, Registry
from sightx.spec.experiment import Experiment

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REQUIRED = ("name", "dataset", "model")  # all else is filled
_EXTENDS = "Another spec, relative to this one: tables merge by key, arrays are replaced whole."
_OWNER = "owner:name, where two plugins bring one name"
_KEPT = ("default", "const", "enum", "examples")  # values, not schemas
_ITEMS = ("items", "prefixItems", "additionalProperties")
_DEFS = "#/$defs/"


def schema(registry: Registry) -> Schema:
    """Return the schema, the same for the same components."""
    return _Builder(registry).root()


class _Generator(GenerateJsonSchema):
    """Leave to the builder what only the registry knows; accept what no schema can say."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as pydantic has it
        "non-serializable-default", "skipped-choice",
    }  # fmt: skip

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> Schema:
        """Mark the place of a table that names a component with the class that is asked for."""
        owner = getattr(schema["function"]["function"], "__self__", None)
        if isinstance(owner, type) and issubclass(owner, Component):
            return {"component": owner}
        return super().function_plain_schema(schema)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        """Accept anything: whatever validates here, `sightx validate` will ask it."""
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no: a key is its own title."""
        return False


class _Builder:
    """Collect definitions while the tables of an experiment are described."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._defs: dict[str, Schema] = {}

    def root(self) -> Schema:
        """Return the schema of a whole spec."""
        table, required = self._described(Experiment, "")
        for cls in KINDS:
            table["properties"][cls.kind]["description"] = _doc(cls).partition("\n")[0]
        table["properties"]["extends"] = {"type": "string", "description": _EXTENDS}
        self._defs["spec.required"] = {**required, "required": list(REQUIRED)}
        del self._defs["Training"]["properties"]["monitor"]["default"]  # the dataset decides it
        return {
            **table,
            "$schema": DIALECT,
            "title": "SightX spec",
            "description": "Everything that determines an experiment.",
            "if": {"not": {"required": ["extends"]}},
            "then": _ref("spec.required"),
            "$defs": self._defs,
        }

    def _described(self, cls: type[Settings], prefix: str) -> tuple[Schema, Schema]:
        """Return what a table of a class may hold, and what it must."""
        cls.model_rebuild()
        generator = _Generator(ref_template=f"{_DEFS}{prefix}{{model}}")
        made = generator.generate(cls.__pydantic_core_schema__)
        inner = made.pop("$defs", {})
        if "$ref" in made:  # a class that holds itself
            made = inner[made["$ref"].removeprefix(f"{_DEFS}{prefix}")]
        for name, table in inner.items():
            self._define(f"{prefix}{name}", *self._parted(table))
        return self._parted(made)

    def _parted(self, table: Schema) -> tuple[Schema, Schema]:
        """Part pydantic's schema of a class into what may be there and what must."""
        fields = table.get("properties")
        allowed = {key: value for key, value in table.items() if key not in ("title", "required")}
        if fields is None:
            return self._plain(allowed), {}
        allowed["properties"] = {key: self._plain(value) for key, value in fields.items()}
        inside = {
            key: _ref(f"{value['$ref'].removeprefix(_DEFS)}.required")
            for key, value in allowed["properties"].items()
            if "$ref" in value
        }
        required = {"required": table.get("required", []), "properties": inside}
        return allowed, {key: value for key, value in required.items() if value}

    def _define(self, name: str, allowed: Schema, required: Schema) -> None:
        self._defs[name], self._defs[f"{name}.required"] = allowed, required

    def _plain(self, node: Any, whole: bool = False) -> Any:
        """Return a field's schema as a spec sees it: no null, tables by reference.

        `whole` is said inside arrays: a table there is not merged with another one.
        """
        if isinstance(node, list):
            return [self._plain(item, whole) for item in node]
        if not isinstance(node, dict):
            return node
        if owner := node.get("component"):
            name = self._kind(owner)
            return _whole(name) if whole else {**_about(node), **_ref(name)}
        if "$ref" in node:
            name = node["$ref"].removeprefix(_DEFS)
            return _whole(name) if whole else {**_about(node), **_ref(name)}
        found = {
            key: value if key in _KEPT else self._plain(value, whole or key in _ITEMS)
            for key, value in node.items()
            if not (key == "default" and value is None)
        }
        if "anyOf" in found:
            found["anyOf"] = [each for each in found["anyOf"] if each != {"type": "null"}]
            if len(found["anyOf"]) == 1:
                return {**found.pop("anyOf")[0], **found}
        return found

    def _kind(self, cls: type[Component]) -> str:
        """Define the table of a kind, or of a narrower class, and return its name."""
        name = cls.kind if cls in KINDS else f"any.{cls.kind}.{cls.__name__}"
        if name not in self._defs:
            self._defs[name] = {}  # a component may hold its own kind
            found = [(e, uses) for e in self._registry.entries(cls.kind)
                     if issubclass(e.component, cls) and (uses := self._uses(e))]  # fmt: skip
            known = [(self._component(entry, uses), entry, uses) for entry, uses in found]
            self._define(name, self._allowed(cls, known), self._demanded(known))
        return name

    def _uses(self, entry: Entry) -> list[str]:
        """Return what `use` may say for a component; its bare name where nobody else has it."""
        kind, name = entry.component.kind, entry.component.name
        owners = sorted({entry.plugin.distribution, entry.plugin.name} - {""})
        offered = [name, *(f"{owner}:{name}" for owner in owners)]
        return [use for use in offered if self._find(kind, use) is entry.component]

    def _find(self, kind: str, use: str) -> type[Component] | None:
        try:
            return self._registry.find(kind, use)
        except PydanticCustomError:
            return None

    def _component(self, entry: Entry, uses: list[str]) -> str:
        name = f"{entry.component.kind}.{uses[0]}"
        if name not in self._defs:
            try:
                allowed, required = self._described(entry.component, f"{name}.")
            except Exception:  # a stranger's class may say no schema; its keys are then free
                allowed = {"description": _doc(entry.component), "properties": {}}
                required = {}
            allowed["properties"]["use"] = {"type": "string", "description": entry.summary}
            self._define(name, allowed, required)
        return name

    def _allowed(self, cls: type[Component], known: list[tuple[str, Entry, list[str]]]) -> Schema:
        """Return what a table may hold: what the component that it names does.

        Without `use`, as below `extends`, it may hold any key of any of them. All keys stand in
        one place, too, because editors complete from there and not from conditions.
        """
        keys: dict[str, dict[str, Schema]] = {}
        for name, _, _ in known:
            for key, value in self._defs[name]["properties"].items():
                ref = _ref(f"{name}/properties/{key}")
                keys.setdefault(key, {}).setdefault(repr(value), ref)
        offered: Schema = {key: {"anyOf": [*refs.values()]} for key, refs in keys.items()}
        offered["use"] = {"type": "string", "anyOf": _names(known)}
        anonymous = {"propertyNames": {"enum": sorted(offered)}}
        return {
            "type": "object",
            "description": _doc(cls),
            "allOf": [
                {"properties": offered},
                *(_when(uses, _ref(name)) for name, _, uses in known),
                {"if": {"not": {"required": ["use"]}}, "then": anonymous},
            ],
        }

    def _demanded(self, known: list[tuple[str, Entry, list[str]]]) -> Schema:
        """Return what a table must hold where it is not merged with a base's."""
        conditions = [
            _when(uses, _ref(f"{name}.required"))
            for name, _, uses in known
            if self._defs[f"{name}.required"]
        ]
        return {"required": ["use"], **({"allOf": conditions} if conditions else {})}


def _names(known: list[tuple[str, Entry, list[str]]]) -> list[Schema]:
    """Return what `use` may say; an editor offers the first names, and takes the others, too."""
    first = [{"const": uses[0], "description": entry.summary} for _, entry, uses in known]
    others = [re.sub(r"[^\w:-]", r"\\\g<0>", use) for *_, uses in known for use in uses[1:]]
    return [*first, {"pattern": f"^({'|'.join(others)})$", "description": _OWNER}]


def _when(uses: list[str], then: Schema) -> Schema:
    """Return a condition on what a table's `use` says."""
    return {"if": {"properties": {"use": {"enum": uses}}, "required": ["use"]}, "then": then}


def _ref(name: str) -> Schema:
    return {"$ref": f"{_DEFS}{name}"}


def _whole(name: str) -> Schema:
    return {"allOf": [_ref(name), _ref(f"{name}.required")]}


def _doc(cls: type[Any]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _about(node: Schema) -> Schema:
    return {key: node[key] for key in ("description",) if key in node}
