"""What the OpenAPI schema says of a request's body: each rule that is kept when one comes in.

Litestar writes down the types of a struct's fields, and not all of their bounds; msgspec, which keeps them, tells them
all.
"""

import re
from typing import Any, TypeGuard, get_type_hints

import msgspec
from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from jasaweb_rt.messages import Read

__all__ = ["StrictBodySchemas"]

_ONE_OF: dict[type[msgspec.Struct], tuple[str, ...]] = {Read: ("ids", "upTo")}
"""Structs of which exactly one field is given; a struct itself has no words for that."""


class StrictBodySchemas(OpenAPISchemaPlugin):
    """Describes structs that take no unknown fields."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is such a struct."""
        return not field_definition.is_union and _is_strict(field_definition.annotation)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ANN401  # not public
        """The schema of a struct. What it is made of in turn is left to Litestar."""
        struct: type[msgspec.Struct] = field_definition.annotation
        hints = get_type_hints(struct, include_extras=True)
        fields = msgspec.structs.fields(struct)
        schema: Schema = schema_creator.create_component_schema(
            field_definition,
            required=sorted(field.encode_name for field in fields if field.required),
            property_fields={
                field.encode_name: FieldDefinition.from_annotation(hints[field.name], name=field.encode_name)
                for field in fields
            },
        )
        assert schema.properties is not None  # noqa: S101  # for mypy
        for name, rules in _properties(struct).items():
            if "$ref" not in str(rules):
                schema.properties[name] = _schema(rules)
        schema.additional_properties = False
        if struct in _ONE_OF:
            schema.one_of = [Schema(required=[name]) for name in _ONE_OF[struct]]
        return schema


def _is_strict(annotation: object) -> TypeGuard[type[msgspec.Struct]]:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, msgspec.Struct)
        and annotation.__struct_config__.forbid_unknown_fields
    )


def _properties(struct: type[msgspec.Struct]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([struct])
    properties: dict[str, Any] = components[struct.__name__]["properties"]
    return properties


def _schema(rules: dict[str, Any]) -> Schema:
    def value_of(value: Any) -> Any:  # noqa: ANN401  # any part of a JSON schema
        if isinstance(value, dict):
            return _schema(value)
        return [value_of(item) for item in value] if isinstance(value, list) else value

    names = {name: re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name) for name in rules}
    return Schema(**{names[name]: value_of(value) if name != "enum" else value for name, value in rules.items()})
