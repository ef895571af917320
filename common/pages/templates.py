"""Render self-contained HTML pages; all text is escaped."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

RESTRICTION = "Research only. Not a medical device: not for diagnosis, treatment or any decision about a patient."
SOFTWARE = {"brainsegfounder": "BrainSegFounder", "monai": "MONAI", "torch": "PyTorch", "python": "Python"}


def render(
    template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, *, made: Mapping[str, Any], **content: Any
) -> str:
    """Render a Jinja template, which may include files of its folder and this folder; an unknown name is an error.

    Names of files that are not UTF-8 are escaped.
    `made` is from `common.made.made_by`, or empty if not recorded; the page ends with it. `filters` and `content`
    are by their names in the template. `<nav class="contents"></nav>` gets a list of the sections with an id and a
    heading.
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
    return _with_contents(page.encode("utf-8", "backslashreplace").decode())


def _facts(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What made a page: names and facts."""
    if not made:
        return [("made by", "not recorded")]
    software = [f"{name} {made['versions'][key]}" for key, name in SOFTWARE.items() if key in made["versions"]]
    commit = [f"commit {made['git_commit']}"] if made["git_commit"] else []
    return [
        ("made on", made["started"].replace("T", " ").replace("+00:00", " UTC")),
        ("command", made["command"]),
        ("cohort", "made-up subjects" if made["made_up"] else made["cohort"] or "not named"),
        *([("postprocessing", cleanup)] if (cleanup := made.get("cleanup")) else []),
        *(("checkpoint", f"{path} (SHA-256 {sha256})") for path, sha256 in made["checkpoints"].items()),
        ("software", ", ".join([*software, *commit])),
    ]


def _with_contents(page: str) -> str:
    before, place, after = page.partition('<nav class="contents"></nav>')
    if not place:
        return page
    sections = re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', after)
    items = (f'<li><a href="#{name}">{re.sub("<.*", "", heading).strip()}</a></li>' for name, heading in sections)
    return f'{before}<nav class="contents" aria-label="Contents"><ol>{"".join(items)}</ol></nav>{after}'


def png_uri(content: bytes) -> str:
    """A PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def hash_of(script: bytes) -> str:
    """A script's SHA-256 in base 64, for `script_hashes` of a template, which allows it to run."""
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
