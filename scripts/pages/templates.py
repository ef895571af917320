"""Render self-contained HTML pages; all text is escaped."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

RESTRICTION = "Research only. Not a medical device: not for diagnosis, treatment or any decision about a patient."
SOFTWARE = {"brainsegfounder": "BrainSegFounder", "monai": "MONAI", "torch": "PyTorch", "python": "Python"}
CONTENTS = '<nav class="contents"></nav>'


def render(
    template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, *, made: Mapping[str, Any], **content: Any
) -> str:
    """Return a page from a Jinja template, which may include files of its folder and this folder.

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
    environment.filters.update({"words": _words, **(filters or {})})
    content |= {"made": _facts(made), "made_up": made.get("made_up", False), "restriction": RESTRICTION}
    page = environment.get_template(template.name).render(**content)
    sections = re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', page)
    items = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading in sections)
    page = page.replace(CONTENTS, f'<nav class="contents" aria-label="Contents"><ol>{items}</ol></nav>', 1)
    return page.encode("utf-8", "backslashreplace").decode()


def _words(text: str) -> Markup:
    """Return a text that breaks between words, and within a word only if that is longer than a line."""
    return Markup(" ").join(Markup('<span class="word">{}</span>').format(word) for word in text.split(" "))


def _facts(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts about a page's origin, as pairs of name and value."""
    if not made:
        return [("made by", "not recorded")]
    software = [f"{name} {made['versions'][key]}" for key, name in SOFTWARE.items() if key in made["versions"]]
    commit = [f"commit {made['git_commit']}"] if made["git_commit"] else []
    return [
        ("made on", made["started"].replace("T", " ").replace("+00:00", " UTC")),
        ("command", made["command"]),
        ("cohort", "made-up subjects" if made["made_up"] else made["cohort"] or "not named"),
        *((name, made[name]) for name in ("split", "cleanup") if made.get(name)),
        *(("checkpoint", f"{path} (SHA-256 {sha256})") for path, sha256 in made["checkpoints"].items()),
        ("software", ", ".join([*software, *commit])),
    ]


def png_uri(content: bytes) -> str:
    """Return a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
