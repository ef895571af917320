"""Check the content of files against JSON schemas."""

import json
from collections.abc import Mapping
from typing import Any

from .errors import InputError, did_you_mean


def check_schema(content: Any, schema: Mapping[str, Any], name: str, expected: str) -> None:
    """Raise an `InputError` that names the entry and rule if `content` does not match a JSON schema.

    For a wrong pattern, the schema's `description` is quoted. `name` is the content's name, such as "--flow=F.json".
    """
    from jsonschema.exceptions import best_match, by_relevance  # imported here, as few callers need it
    from jsonschema.validators import Draft202012Validator, validator_for

    validator = validator_for(schema, default=Draft202012Validator)(schema)
    problem = best_match(validator.iter_errors(content), key=by_relevance(strong={"additionalProperties"}))
    if problem is None:
        return
    if problem.validator == "additionalProperties":
        keys = problem.schema.get("properties", {})
        unknown = next(key for key in problem.instance if key not in keys)
        raise InputError(f"{name}: {problem.json_path}.{unknown}", f"no such key{did_you_mean(str(unknown), keys)}")
    value = json.dumps(problem.instance, ensure_ascii=False, default=str)
    rule = problem.schema.get("description") if problem.validator == "pattern" else problem.message.splitlines()[0]
    raise InputError(f"{name}: {problem.json_path} = {value:.80}", rule, expected)
