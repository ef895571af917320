"""What the HTML pages have in common: each is one file that loads nothing, and escapes what comes from elsewhere."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["png_uri", "render"]


def render(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """A page from a template of this folder; what is not known to be markup is escaped, an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**content)


def png_uri(content: bytes) -> str:
    """The bytes of a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
