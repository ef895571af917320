"""The content of a study's YAML, as a JSON schema."""

from typing import Any

from scripts.experiments.mapping import FIGURE, NAME, TABLE

__all__ = ["SCHEMA"]

LAYOUTS = ["ukb", "brats", "atlas"]
VALUE = {"type": ["string", "number", "boolean", "null", "array", "object"]}
OPTIONS = {"type": "object", "propertyNames": NAME, "additionalProperties": VALUE}
AXES = {
    "type": "object",
    "propertyNames": NAME,
    "additionalProperties": {
        "type": "array",
        "items": {"type": ["string", "number"], "pattern": r"^\w[\w.-]*$"},
        "minItems": 1,
        "uniqueItems": True,
    },
}
DATALIST = {
    "type": "object",
    "properties": {
        "layout": {"enum": LAYOUTS},
        "data": {"type": "string", "pattern": r"^\w[\w.-]*\Z"},  # a folder's name, no path
        "from": NAME,
        "files": {"type": "array", "items": NAME},
        "for": AXES,
        "options": {**OPTIONS, "propertyNames": {"pattern": r"^(?!root$|output$|datalist$)[a-z][a-z0-9_]*$"}},
    },
    "oneOf": [{"required": ["layout"]}, {"required": ["data"]}, {"required": ["from"]}],
    "additionalProperties": False,
}
RUN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "bundle": NAME,
        "command": {"type": "string", "minLength": 1},
        "target": {"type": "string", "pattern": r"^\w[\w-]*(/\w[\w.-]*)*$"},
        "files": {"type": "array", "items": NAME},
        "datalist": NAME,
        "pretrained": NAME,
        "for": AXES,
        "overlays": {"type": "array", "items": {"type": "string", "pattern": r"^[\w-]+\.yaml$"}},
        "options": OPTIONS,
        "evaluate": {"enum": [True, False, "validation", "testing"]},  # true: testing
        "evaluation": OPTIONS,
        "pool": NAME,
    },
    "oneOf": [{"required": ["bundle", "datalist"]}, {"required": ["command"]}],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["title", "datalists", "runs"],
    "properties": {
        "title": {"type": "string"},
        "cohorts": {
            "type": "object",
            "propertyNames": {"enum": LAYOUTS},
            "additionalProperties": OPTIONS,
        },
        "datalists": {"type": "object", "propertyNames": NAME, "additionalProperties": DATALIST},
        "runs": {"type": "object", "propertyNames": NAME, "additionalProperties": RUN, "minProperties": 1},
        "settings": {
            "type": "object",
            "properties": {"overlays": RUN["properties"]["overlays"], "options": OPTIONS},
            "additionalProperties": False,
        },
        "tables": {"type": "array", "items": TABLE},
        "figures": {"type": "array", "items": FIGURE},
    },
    "additionalProperties": False,
}
