"""Write self-contained HTML pages; all text is escaped."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import atomic_write

RESTRICTION = "Research only. Not a medical device: not for diagnosis, treatment or any decision about a patient."
CONTENTS = '<nav class="contents"></nav>'


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
    empty. `<nav class="contents"></nav>` becomes the list of sections with an id and a heading.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    content |= {"made": _facts(made), "made_up": made.get("made_up", False), "restriction": RESTRICTION}
    page = environment.get_template(template.name).render(**content)
    sections = re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', page)
    items = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading in sections)
    page = page.replace(CONTENTS, f'<nav class="contents" aria-label="Contents"><ol>{items}</ol></nav>', 1)
    with atomic_write(path) as file:
        file.write_bytes(page.encode("utf-8", "backslashreplace"))


def _facts(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts about a page's origin, as pairs of name and value."""
    facts = []
    for name, fact in made.items():
        text = ", ".join(f"{key} {value}" for key, value in fact.items()) if isinstance(fact, Mapping) else str(fact)
        facts += [(name.replace("_", " "), text)] if fact else []
    return facts or [("made by", "not recorded")]


def png_uri(content: bytes) -> str:
    """Return a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
