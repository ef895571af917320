"""Match paths with templates, such as `{subject}/pre/{subject}_T1`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

_TOKEN = re.compile(r"(\{\w+\}|\*\*/|\*+|\?|\[[^\]/]+\])")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Template:
    """A pattern of paths with fields in braces; `*`, `?` and `[...]` match within a name, `**` also across folders.

    `fields` maps a field to the regular expression of its values, by default any name; named groups in the expression
    become fields, too.

    Example:
        >>> Template("{subject}/pre/{subject}_T1").match("P1/pre/P1_T1"), Template("*/T1").match("P1/T1")
        ({'subject': 'P1'}, {})
    """

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    flags: re.RegexFlag = re.NOFLAG

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts, seen = [], set()
        for part in _TOKEN.split(self.text):
            name = part[1:-1] if _TOKEN.fullmatch(part) and part.startswith("{") else ""
            if name in seen:
                parts.append(f"(?P={name})")
            elif name:
                parts.append(f"(?P<{name}>{self.fields.get(name, '[^/]+?')})")
                seen.add(name)
            else:
                literal = part.replace("[!", "[^") if _TOKEN.fullmatch(part) else re.escape(part)
                parts.append(_WILD.get(part, literal))
        return re.compile("".join(parts), self.flags | re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the values of the template's fields in a relative path; None if the path does not match."""
        match = self._pattern.fullmatch(path)
        return match.groupdict() if match else None
