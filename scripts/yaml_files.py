"""Read YAML that users write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from common.errors import InputError
from common.files import check_schema


def read_yaml(path: str | Path, expected: str = "", schema: Mapping[str, Any] | None = None) -> Any:
    """Read a file of YAML 1.2 without tags and duplicate keys, and check it; see `common.files.read_json`."""
    try:
        content = YAML(typ="safe", pure=True).load(Path(path).read_bytes().decode())
    except OSError as error:
        raise InputError(path, error.strerror, expected) from error
    except (ValueError, YAMLError) as error:
        raise InputError(path, f"not YAML ({' '.join(str(error).split())})", expected) from error
    if schema is not None:
        check_schema(content, schema, str(path), expected)
    return content
