"""One JSON Schema for all specs that can use the installed plugins.

Editors complete and check specs with it (`#:schema` in a spec). The `use` of a table decides which
component's schema applies. A spec with `extends` may leave out what its base contains. Therefore
each definition `NAME`, with what a table may contain, has a definition `NAME.required`, with what
it must contain. Arrays are not merged with those of a base, so their items need both.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import core_schema

from sightx.registry.components import Component, Settings, UnknownComponentError
from sightx.registry.introspection import docstring, field_descriptions
from sightx.registry.kinds import KINDS
from sightx.registry.registry import Entry, Registry
from sightx.spec.experiment import Experiment

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXTENDS = "Another spec, relative to this one: tables merge by key, arrays are replaced whole."
_OWNER = "owner:name, if two plugins provide the same name"
_VALUES = ("default", "const", "enum", "examples")  # their values are not schemas
_ITEMS = ("items", "prefixItems", "additionalProperties")
_DEFS = "#/$defs/"


class _Choice(NamedTuple):
    """A component that a table can name, the values of `use` for it, and its definition."""

    entry: Entry
    uses: list[str]
    definition: str


def schema(registry: Registry) -> Schema:
    """Return the schema; it is the same for the same components."""
    return _Builder(registry).build()


class _Generator(GenerateJsonSchema):
    """pydantic's generator, which leaves component tables to the builder."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as in pydantic
        "non-serializable-default", "skipped-choice",
    }  # fmt: skip

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> Schema:
        """Mark a table that names a component with the class that its kind requires."""
        owner = getattr(schema["function"]["function"], "__self__", None)
        if isinstance(owner, type) and issubclass(owner, Component):
            return {"component": owner}
        return super().function_plain_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Add the docstrings of fields."""
        table = super().model_schema(schema)
        cls: type[BaseModel] = schema["cls"]
        descriptions = field_descriptions(cls)
        for key, value in table.get("properties", {}).items():
            if key in descriptions:
                value.setdefault("description", descriptions[key])
        return table

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        """Accept anything where a JSON Schema cannot say what is valid."""
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles: a key needs none."""
        return False


class _Builder:
    """Collects definitions while the tables of an experiment are described."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._defs: dict[str, Schema] = {}

    def build(self) -> Schema:
        """Return the schema of a whole spec."""
        table, required = self._describe_class(Experiment, "")
        for cls in KINDS:
            section = table["properties"][cls.kind]
            parts = [docstring(cls).partition("\n")[0], section.get("description", "")]
            section["description"] = " ".join(filter(None, parts))
        table["properties"]["extends"] = {"type": "string", "description": _EXTENDS}
        self._defs["spec.required"] = required
        return {
            **table,
            "$schema": DIALECT,
            "title": TITLE,
            "description": "Everything that determines an experiment.",
            "if": {"not": {"required": ["extends"]}},
            "then": _ref("spec.required"),
            "$defs": self._defs,
        }

    def _describe_class(self, cls: type[Settings], prefix: str) -> tuple[Schema, Schema]:
        """Return what a table of a class may contain, and what it must."""
        cls.model_rebuild()
        generator = _Generator(ref_template=f"{_DEFS}{prefix}{{model}}")
        generated = generator.generate(cls.__pydantic_core_schema__)
        inner = generated.pop("$defs", {})
        if "$ref" in generated:  # a class that contains itself
            generated = inner[generated["$ref"].removeprefix(f"{_DEFS}{prefix}")]
        for name, table in inner.items():
            self._define(f"{prefix}{name}", *self._split(table))
        return self._split(generated)

    def _split(self, table: Schema) -> tuple[Schema, Schema]:
        """Split pydantic's schema of a class into what may be in a table and what must."""
        fields = table.get("properties")
        allowed = {key: value for key, value in table.items() if key not in ("title", "required")}
        if fields is None:
            return self._convert(allowed), {}
        allowed["properties"] = {key: self._convert(value) for key, value in fields.items()}
        inside = {
            key: _ref(f"{value['$ref'].removeprefix(_DEFS)}.required")
            for key, value in allowed["properties"].items()
            if "$ref" in value
        }
        required = {"required": table.get("required", []), "properties": inside}
        return allowed, {key: value for key, value in required.items() if value}

    def _define(self, name: str, allowed: Schema, required: Schema) -> None:
        self._defs[name], self._defs[f"{name}.required"] = allowed, required

    def _convert(self, node: Any, in_array: bool = False) -> Any:
        """Return pydantic's schema of a field without null, and with references to tables.

        A table inside an array is not merged with another one, so it must be complete.
        """
        if isinstance(node, list):
            return [self._convert(item, in_array) for item in node]
        if not isinstance(node, dict):
            return node
        if "component" in node or "$ref" in node:
            owner = node.get("component")
            name = self._define_kind(owner) if owner else node["$ref"].removeprefix(_DEFS)
            if in_array:
                return {"allOf": [_ref(name), _ref(f"{name}.required")]}
            return {key: node[key] for key in ("description",) if key in node} | _ref(name)
        converted = {
            key: value if key in _VALUES else self._convert(value, in_array or key in _ITEMS)
            for key, value in node.items()
            if not (key == "default" and value is None)
        }
        if "anyOf" in converted:
            branches = [branch for branch in converted["anyOf"] if branch != {"type": "null"}]
            converted["anyOf"] = branches
            if len(branches) == 1:
                del converted["anyOf"]
                return {**branches[0], **converted}
        return converted

    def _define_kind(self, cls: type[Component]) -> str:
        """Define the table of a kind, or of a narrower class, and return its name."""
        name = cls.kind if cls in KINDS else f"any.{cls.kind}.{cls.__name__}"
        if name not in self._defs:
            self._defs[name] = {}  # a component may contain its own kind
            choices = [
                _Choice(entry, uses, self._define_component(entry, uses[0]))
                for entry in self._registry.entries(cls.kind)
                if issubclass(entry.component, cls) and (uses := self._uses(entry))
            ]
            self._define(name, self._allowed(cls, choices), self._required(choices))
        return name

    def _uses(self, entry: Entry) -> list[str]:
        """Return the values of `use` for a component; first its name, if no other has it."""
        kind, name = entry.component.kind, entry.component.name
        owners = sorted({entry.plugin.distribution, entry.plugin.name} - {""})
        uses = [name, *(f"{owner}:{name}" for owner in owners)]
        return [use for use in uses if self._find(kind, use) is entry.component]

    def _find(self, kind: str, use: str) -> type[Component] | None:
        try:
            return self._registry.find(kind, use)
        except UnknownComponentError:
            return None

    def _define_component(self, entry: Entry, use: str) -> str:
        name = f"{entry.component.kind}.{use}"
        if name not in self._defs:
            try:
                allowed, required = self._describe_class(entry.component, f"{name}.")
            except Exception:  # a plugin's class may have no schema; then any key is allowed
                allowed = {"description": docstring(entry.component), "properties": {}}
                required = {}
            allowed["properties"]["use"] = {"type": "string", "description": entry.summary}
            self._define(name, allowed, required)
        return name

    def _allowed(self, cls: type[Component], choices: list[_Choice]) -> Schema:
        """Return what a table may contain: the keys of the component that it names.

        Without `use`, as in a spec with `extends`, it may contain the keys of all components. All
        keys are also listed in one place, because editors do not complete from conditions.
        """
        keys: dict[str, dict[str, Schema]] = {}
        for choice in choices:
            for key, value in self._defs[choice.definition]["properties"].items():
                ref = _ref(f"{choice.definition}/properties/{key}")
                keys.setdefault(key, {}).setdefault(repr(value), ref)
        properties: Schema = {key: {"anyOf": [*refs.values()]} for key, refs in keys.items()}
        properties["use"] = {"type": "string", "anyOf": _names(choices)}
        without_use = {"propertyNames": {"enum": sorted(properties)}}
        return {
            "type": "object",
            "description": docstring(cls),
            "allOf": [
                {"properties": properties},
                *(_if_use(choice.uses, _ref(choice.definition)) for choice in choices),
                {"if": {"not": {"required": ["use"]}}, "then": without_use},
            ],
        }

    def _required(self, choices: list[_Choice]) -> Schema:
        """Return what a table must contain if it is not merged with that of a base."""
        conditions = [
            _if_use(choice.uses, _ref(f"{choice.definition}.required"))
            for choice in choices
            if self._defs[f"{choice.definition}.required"]
        ]
        return {"required": ["use"], **({"allOf": conditions} if conditions else {})}


def _names(choices: list[_Choice]) -> list[Schema]:
    """Return the values of `use`: editors offer the first of each component, and accept others."""
    first = [{"const": c.uses[0], "description": c.entry.summary} for c in choices]
    others = [re.sub(r"[^\w:-]", r"\\\g<0>", use) for c in choices for use in c.uses[1:]]
    return [*first, {"pattern": f"^({'|'.join(others)})$", "description": _OWNER}]


def _if_use(uses: list[str], then: Schema) -> Schema:
    """Return a schema that applies if `use` has one of some values."""
    return {"if": {"properties": {"use": {"enum": uses}}, "required": ["use"]}, "then": then}


def _ref(name: str) -> Schema:
    return {"$ref": f"{_DEFS}{name}"}


TITLE = "SightX spec"
"""The title of the schema, by which a file is known to be one."""
