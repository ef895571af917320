"""Write self-contained HTML pages; all text is escaped."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import atomic_write


def write_page(
    path: Path,
    template: Path,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    *,
    made: Mapping[str, Any],
    **content: Any,
) -> None:
    """Write a page from a Jinja template, which may include files of its folder and this folder.

    File names that are not UTF-8 are escaped. The end of the page prints `made`, a record of `common.made.origin_of` or
    empty. The filter `as_uri` turns the bytes of a PNG picture into a data URI.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    environment.filters.update(filters or {})
    page = environment.get_template(template.name).render(made=made, **content)
    with atomic_write(path) as file:
        file.write_bytes(page.encode("utf-8", "backslashreplace"))
