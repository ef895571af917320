"""Check a run's configs, overlays and options before MONAI reads them.

MONAI merges them without checking keys, and reports a wrong value from deep inside.
"""

import ast
import difflib
import inspect
import pydoc
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import InputError, one_line, shortened

# MONAI's own options, and those of its --tracking
OWN = {"run_id", "init_id", "final_id", "meta_file", "logging_file", "args_file", "tracking", "workflow_type"}
TRACKING = {"tracking_uri", "experiment_name", "run_name", "save_execute_config"}


def parsed(value: Any) -> Any:
    """Parse an option's text as MONAI's command does (python-fire): a Python literal, else text.

    Values that are not text stay.

    Example:
        >>> parsed("1,1,2"), parsed("1e-4"), parsed("600 epochs"), parsed("")
        ((1, 1, 2), 0.0001, '600 epochs', True)
    """
    from fire.parser import DefaultParseValue

    if value == "":
        return True
    return DefaultParseValue(value) if isinstance(value, str) else value


def read(files: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Any:
    """Build the `ConfigParser` of a run without starting it; later files override earlier ones.

    A caller that resolves content resolves `imports` first.
    """
    from monai.bundle import ConfigParser  # imported here because it is slow

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update(dict(options or {}))
    return parser


def check_known(given: Mapping[str, Any], files: Sequence[str | Path]) -> None:
    """Refuse options that no config file has."""
    parser = read(files)
    for name, value in given.items():
        if name in ("epochs", "max_epochs") or name not in parser:
            raise _unknown(name, f"--{name}={value}", parser, ", ".join(map(str, files)))


def check(files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
    """Check a run's configs and the options that change them: files, keys, references, expressions and components."""
    own = OWN | (TRACKING if options.get("tracking") is not None else set())
    if options.get("tracking") == "mlflow" and find_spec("mlflow") is None:
        raise InputError("--tracking=mlflow: no module mlflow; expected it in this environment: pip install mlflow")
    first, *overlays = map(_load, files)
    merged = _Merged(first, ", ".join(map(str, files)))
    for file, overlay in zip(files[1:], overlays, strict=True):
        for key, value in overlay.items():
            merged.change(key, value, f"{file}: {key}: {value!s:.160}")
    for name, value in options.items():
        if name not in own:
            merged.change(name, value, f"--{name}={value}")
            if value is None:
                raise InputError(f"--{name}=None: MONAI ignores None; write null, or leave the option out")
    merged.check()


class _Merged:
    """Configs as MONAI merges them."""

    def __init__(self, content: dict[str, Any], names: str) -> None:
        from monai.bundle import ConfigParser

        self.parser, self.names = ConfigParser(content), names
        self.changes: dict[str, str] = {}  # by id, as given
        self._components = {id: item["_target_"] for id, item in _items(content) if _is_component(item)}
        self._new: dict[str, InputError] = {}  # keys new in this file, which references may use

    def change(self, key: str, value: Any, given: str) -> None:
        """Change the value of a key, as an overlay or an option does."""
        from monai.bundle.utils import merge_kv

        id = key.replace("#", "::").removeprefix("+")  # MONAI's older separator
        section = id.rpartition("::")[0]
        there = self.parser.get(section, None) if section else {}
        if id in ("", "epochs", "max_epochs") or not isinstance(there, dict | list):
            raise _unknown(id, given, self.parser, self.names)
        if id not in self.parser and not _is_component(there):
            self._new[id] = _unknown(id, given, self.parser, self.names)
        try:
            merge_kv(self.parser, key, value)
        except ValueError as error:
            raise InputError(f"{given}: + merges a mapping or a list only") from error
        self.changes[id] = given

    def check(self) -> None:
        """Check keys, references, expressions and components."""
        try:
            self.parser.resolve_macro_and_relative_ids()
        except (KeyError, OSError, ValueError) as error:
            raise InputError(f"{self.names}: {one_line(error)}") from error
        items = dict(_items(self.parser.config))
        referred = {other for item in items.values() for other in _references(item)}
        for id, unknown in self._new.items():
            if not any(f"{other}::".startswith(f"{id}::") for other in referred):
                raise unknown
        for id, item in items.items():
            if isinstance(item, str):
                self._check_text(id, item, items)
            elif _is_component(item):
                _check_component(item, self._given(id))
        for id, target in self._components.items():
            item = items.get(id)
            if id in self.changes and not _is_component(item) and not str(item).startswith(("$", "@")):
                raise InputError(f"{self.changes[id]}: expected a component, such as {{'_target_': '{target}', ...}}")

    def _given(self, *ids: str) -> str:
        """The change that set an item, a part of it or its parent; the first file if nothing was changed."""
        for id in ids:
            related = [key for key in self.changes if f"{id}::".startswith(f"{key}::") or key.startswith(f"{id}::")]
            if related:
                return self.changes[max(related, key=len)]
        return f"{self.names}: {ids[-1]}"

    def _check_text(self, id: str, text: str, items: Mapping[str, Any]) -> None:
        """Check the references of a text, and its syntax if it is an expression."""
        for other in _references(text):
            if other not in items:
                near = difflib.get_close_matches(other, items, n=1)
                hint = f"; did you mean @{near[0]}?" if near else ""
                raise InputError(f"{self._given(other, id)}: no @{other} in {self.names}, which {id} refers to{hint}")
        if text.startswith("$"):
            try:
                ast.parse(text[1:].replace("@", "").replace("::", "_"))
            except SyntaxError as error:
                raise InputError(f"{self._given(id)}: not a Python expression: {error.msg}") from error


def _items(config: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a config's items by id, as MONAI counts them."""
    if id:
        yield id, config
    if isinstance(config, Mapping | list):
        for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
            if key != "_meta_":
                yield from _items(value, f"{id}::{key}" if id else str(key))


def _is_component(item: Any) -> bool:
    return isinstance(item, Mapping) and "_target_" in item


def _references(item: Any) -> list[str]:
    """The ids that a text refers to."""
    from monai.bundle import ReferenceResolver

    return list(ReferenceResolver.match_refs_pattern(item)) if isinstance(item, str) else []


@cache
def _locator() -> Any:
    """MONAI's table of classes and functions, which takes a moment to build."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _check_component(item: Mapping[str, Any], given: str) -> None:
    """Check that a component exists and accepts its arguments."""
    from monai.bundle import ConfigComponent

    target, is_called = item["_target_"], item.get("_mode_", "default") == "default"
    if str(item.get("_disabled_", "")).lower() == "true" or str(target).startswith(("$", "@")):
        return
    found = pydoc.locate(ConfigComponent(dict(item), locator=_locator()).resolve_module_name())
    if not callable(found):
        raise InputError(f"{given}: no class or function {target}; expected one of MONAI, or a full name")
    arguments = dict.fromkeys(item.keys() - ConfigComponent.non_arg_keys)
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # some functions in C have no signature
        return
    try:
        (signature.bind if is_called else signature.bind_partial)(**arguments)
    except TypeError as error:
        raise InputError(f"{given}: {target}: {error}") from error


def _unknown(id: str, given: str, parser: Any, files: str) -> InputError:
    """The error for an unknown key, with the nearest known key."""
    dashes, kind = ("--", "option") if given.startswith("--") else ("", "key")
    if id in ("epochs", "max_epochs"):
        return InputError(f"{given}: no such {kind}; did you mean {dashes}iterations='N epochs'?")
    section, known = "", parser.config
    for part in id.split("::"):
        if not isinstance(known, Mapping) or part not in known:
            break
        section, known = f"{section}{part}::", known[part]
    if not isinstance(known, Mapping):
        return InputError(f"{given}: no such {kind} in {files}; {section.removesuffix('::')} has no keys of its own")
    near = difflib.get_close_matches(part, map(str, known), n=1)
    keys = [str(key) for key, value in known.items() if section or not isinstance(value, Mapping)]
    hint = f"did you mean {dashes}{section}{near[0]}?" if near else f"expected one of {shortened(keys, most=12)}"
    return InputError(f"{given}: no such {kind} in {files}; {hint}")


def _load(file: str | Path) -> dict[str, Any]:
    """The content of a config file."""
    import yaml
    from monai.bundle import ConfigParser

    path = Path(file)
    if path.is_dir():
        raise InputError(f"{file}: a folder; expected a YAML file")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [each.name for each in path.parent.glob("*.*")], n=1)
        raise InputError(f"{file}: no such file{f'; did you mean {path.parent / near[0]}?' if near else ''}")
    try:
        content = ConfigParser.load_config_file(str(file))
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line + 1
        raise InputError(f"{file}: not YAML: line {line}: {error.problem}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from error
    if not isinstance(content, Mapping):
        found = "empty" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{file}: {found}; expected a mapping of options, such as {{batch_size: 2}}")
    return {str(key): value for key, value in content.items()}
