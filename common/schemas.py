"""Build JSON schemas, and check untrusted content against them."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from .errors import InputError, did_you_mean

DESCRIBED = ("pattern", "contains", "maxLength", "maxItems", "maxProperties")  # rules with vague messages
NOTHING: Mapping[str, Any] = MappingProxyType({})


def entries(required: Mapping[str, Any] = NOTHING, /, **optional: Any) -> dict[str, Any]:
    """Return the schema of an object with required and optional entries, and any others."""
    return {"type": "object", "required": [*required], "properties": {**required, **optional}}


def only(required: Mapping[str, Any] = NOTHING, /, **optional: Any) -> dict[str, Any]:
    """Return the schema of an object with required and optional entries, and no others."""
    return entries(required, **optional) | {"additionalProperties": False}


def mapping(values: Mapping[str, Any], names: Mapping[str, Any] = NOTHING, **rules: Any) -> dict[str, Any]:
    """Return the schema of a mapping; `rules` are further keywords, such as minProperties."""
    return {"type": "object", "propertyNames": names, "additionalProperties": values, **rules}


def array(items: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    """Return the schema of a list; `rules` are further keywords, such as minItems."""
    return {"type": "array", "items": items, **rules}


def check_schema(content: Any, schema: Mapping[str, Any], name: str, expected: str) -> None:
    """Check untrusted content against a JSON schema (draft 2020-12 unless `$schema` names a different draft).

    The `InputError` names the entry, its value (mappings are too long) and the broken rule; for a wrong pattern or
    size, it quotes the schema's `description` instead of the rule. Of several faults in an entry, an unknown key is
    named, with the most similar known key. `name` is the content's name, such as "--flow=F.json".
    """
    from jsonschema import Draft202012Validator  # imported here, as few callers need it
    from jsonschema.exceptions import best_match, by_relevance
    from jsonschema.validators import extend, validator_for

    kind = validator_for(schema, default=Draft202012Validator)
    check = extend(kind, {"pattern": partial(_check_pattern, kind.VALIDATORS["pattern"])})
    problem = best_match(check(schema).iter_errors(content), key=by_relevance(strong={"additionalProperties"}))
    if problem is not None:
        if problem.validator == "additionalProperties":
            keys = problem.schema.get("properties", {})
            unknown = next(key for key in problem.instance if key not in keys)
            hint = did_you_mean(str(unknown), keys, otherwise=f"expected one of {', '.join(keys)}")
            raise InputError(f"{name}: {problem.json_path}.{unknown}: no such key{hint}")
        value = f" = {json.dumps(problem.instance, ensure_ascii=False, default=str):.80}"
        where = f"{name}: {problem.json_path}{'' if isinstance(problem.instance, Mapping) else value}"
        if problem.validator in DESCRIBED and "description" in problem.schema:
            raise InputError(f"{where}; expected {problem.schema['description']}")
        raise InputError(f"{where}: {problem.message.splitlines()[0]:.160}; expected {expected}")


def _check_pattern(check: Callable[..., Any], validator: Any, pattern: str, *rest: Any) -> Any:
    r"""Check a pattern with `$` for the end of the text, as in JSON Schema; Python's also matches before a final \n."""
    return check(validator, re.sub(r"(?<!\\)\$(?=\)|$)", r"\\Z", pattern), *rest)
