"""Format settings for readers."""

import json
from typing import Any

import yaml


def as_yaml(value: Any) -> str:
    """Nested lists and dictionaries as YAML with short lines; values that YAML cannot express become text."""
    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, default_flow_style=None, sort_keys=False, width=110).rstrip()
