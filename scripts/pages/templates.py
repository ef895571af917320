"""Write self-contained HTML pages; all text is escaped."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import atomic_write


def write_page(path: Path, template: Path, **content: Any) -> None:
    """Write a page from a Jinja template, which may include files of its folder and this folder.

    File names that are not UTF-8 are escaped. The end of the page prints `made`, a record of `common.made.origin_of` or
    empty. Filters: `as_uri` turns the bytes of a PNG picture into a data URI, `digits` formats a number or None.
    """
    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["as_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    jinja.filters["digits"] = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    page = jinja.get_template(template.name).render(**content)
    with atomic_write(path) as file:
        file.write_bytes(page.encode("utf-8", "backslashreplace"))
