"""Check the keys, references and components of a run's configs, overlays and options before MONAI reads them.

MONAI merges them without checking keys, and reports a wrong one from deep inside.
"""

import os
import pydoc
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from .errors import InputError, choice, did_you_mean, shortened, show
from .files import valid_json, valid_yaml, why_no_file
from .literals import literal, names_of
from .options import OPTIONS, TRAINING_DEFAULTS

# MONAI's option `tracking`, and the options that apply with it
TRACKING = {"tracking", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
OURS = [Path(__file__).resolve().parents[1] / name for name in ("bundles", "studies")]


def warn_of_program(path: str | Path, runs: str = "expressions") -> None:
    """Warn, before any of it runs, that a config, study or package from elsewhere is a program.

    `runs` says which of its parts run. Links do not make a file ours; of several processes, the first warns.
    """
    is_ours = any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in OURS)
    if not is_ours and os.environ.get("RANK", "0") == "0":
        where = "it is not from bundles/ or studies/; see SECURITY.md"
        show(f"warning: {path}: its {runs} run as a program, and {where}", error=True)


def parsed(name: str, text: Any) -> Any:
    """An option's value from its text: as its entry in `OPTIONS` reads it, else as MONAI's command does.

    Values that are not text stay; no text is True.

    Example:
        >>> parsed("output_dir", "2026_11_27"), parsed("patch_size", "64,64,64"), parsed("loss::gamma", "1e-1")
        ('2026_11_27', (64, 64, 64), 0.1)
    """
    if not isinstance(text, str):
        return text
    if text == "":
        return True
    option = OPTIONS.get(name.removeprefix("+"))
    if option is not None:
        return option.kind.read(text)
    if name in TRACKING:
        return text
    value = literal(text)
    is_list = isinstance(value, str) and re.fullmatch(r"\[[^][{}'\"]+\]", value)  # of paths
    return names_of(value) if is_list else value


def as_data(name: str, value: Any) -> Any:
    r"""The value of an option as MONAI takes it, which evaluates text with $, and follows @, % and #: quoted.

    Raises an InputError for an expression, reference or macro in an option that is a component's argument.

    Example:
        >>> print(as_data("output_dir", "/data/$x #1"), as_data("checkpoint", ["a", "@b"]))
        $'/data/\U00000024x \U000000231' ['a', "$'\U00000040b'"]
    """
    is_option = name.removeprefix("+") in OPTIONS.keys() | TRACKING
    if isinstance(value, list | tuple):
        return type(value)(as_data(name, item) for item in value)
    if isinstance(value, Mapping):
        if is_option:
            return value if all(map(_is_plain, [*value, *value.values()])) else f"${_quoted(value)}"
        return {key: as_data(name, item) for key, item in value.items()}
    if _is_plain(value):
        return value
    if not is_option and value[0] in "$@%":
        raise InputError(f"--{name}={value}: an expression; expected a value: only configs and overlays are evaluated")
    return f"${_quoted(value)}"


def _is_plain(value: Any) -> bool:
    """Whether MONAI takes a value for itself: no text with its signs, and no key such as _target_."""
    return not isinstance(value, str) or not re.search(r"[$@%#]|^_", value)


def _quoted(value: Any) -> str:
    """A Python expression for a value, in which text has no character that MONAI reads."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {_quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_quoted, value)) + "]"
    if not isinstance(value, str):
        return repr(value)
    return "'" + re.sub(r"[^\w/. -]", lambda match: rf"\U{ord(match[0]):08x}", value) + "'"


def argument(word: str) -> str:
    """Rewrite `--option=text` so that MONAI's own command reads the value that ours reads.

    Example:
        >>> argument("--output_dir=runs/mine"), argument("--output_dir=2026_11_27"), argument("--amp")
        ('--output_dir=runs/mine', "--output_dir=$'2026_11_27'", '--amp')
    """
    option, equals, text = word.partition("=")
    if not equals or not option.startswith("--"):
        return word
    value = as_data(option[2:], parsed(option[2:], text))
    if literal(text) == value:
        return word
    if isinstance(value, str):
        return f"{option}={value if value[0] == '$' else f'${_quoted(value)}'}"
    return f"{option}={value!r}"


def read(files: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Any:
    """Build the `ConfigParser` of a run without starting it; later files override earlier ones.

    A training has the options that its config need not name. A caller that resolves content resolves `imports` first.
    """
    from monai.bundle import ConfigParser  # imported here because it is slow

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    _add_defaults(parser)
    parser.update({name: as_data(name, value) for name, value in (options or {}).items()})
    return parser


def _add_defaults(parser: Any) -> None:
    if "ckpt_dir" in parser:
        parser.update({name: value for name, value in TRAINING_DEFAULTS.items() if name not in parser})


def check_known(given: Mapping[str, Any], files: Sequence[str | Path]) -> None:
    """Refuse options that no config file has."""
    parser = read(files)
    for name, value in given.items():
        if name in ("epochs", "max_epochs") or name not in parser:
            raise _unknown(name, f"--{name}={value}", parser, ", ".join(map(str, files)))


def check(files: Sequence[str | Path], options: Mapping[str, Any]) -> dict[str, str]:
    """Check a run's configs and the options that change them: files, keys, references, and names of components.

    A new key is accepted in a component, or if something refers to it. Returns the text of each change by its key.
    """
    from monai.bundle import ConfigParser, ReferenceResolver
    from monai.bundle.utils import merge_kv

    names = ", ".join(map(str, files))
    first, *overlays = map(_load, files)
    for file in files:
        warn_of_program(file)
    parser = ConfigParser(first)
    _add_defaults(parser)
    if "run" not in first:
        raise InputError(f"{files[0]}: an overlay; expected a config that runs by itself, such as train")
    for file, overlay in zip(files[1:], overlays, strict=True):
        if {"bundle_root", "run"} <= overlay.keys():
            raise InputError(f"{file}: a config that runs by itself; expected an overlay, which changes {files[0]}")
    changes = [
        (key, value, f"{file}: {key}", f": {value!s:.160}")
        for file, overlay in zip(files[1:], overlays, strict=True)
        for key, value in overlay.items()
    ]
    own = set()
    if options.get("tracking") is not None:
        own = TRACKING
        choice("tracking", options["tracking"], {"mlflow": None})
    changes += [(key, value, f"--{key}", f"={value}") for key, value in options.items() if key not in own]
    new: dict[str, InputError] = {}
    replaced: dict[str, str] = {}
    for key, value, place, shown in changes:
        given = f"{place}{shown}"
        if value is None and given.startswith("--"):
            raise InputError(f"{given}: MONAI ignores None; write null, or leave the option out")
        id = key.removeprefix("+")
        section = id.rpartition("::")[0]
        there = parser.get(section, None) if section else {}
        if not all(id.split("::")) or id in ("epochs", "max_epochs") or not isinstance(there, dict | list):
            raise _unknown(id, given, parser, names)
        if id not in parser and not _is_component(there):
            new[id] = _unknown(id, given, parser, names)
        if id == key and id not in OPTIONS:
            _check_shape(parser.get(id, None), value, given)
        if id == key and isinstance(value, Mapping) and id in parser:
            replaced[f"{id}::"] = f"{place} replaces the whole section; +{id} changes a part of it"
        merge_kv(parser, key, as_data(key, value) if place == f"--{key}" else value)
    try:
        parser.resolve_macro_and_relative_ids()
    except Exception as error:  # of MONAI, for a text that begins with %
        culprits = [f"{place}{shown}" for _, value, place, shown in changes if "%" in str(value)]
        raise InputError(f"{culprits[0] if culprits else names}: MONAI takes % for another config ({error})") from error

    items = dict(_items(parser.config))
    referred = {id: list(ReferenceResolver.match_refs_pattern(it)) for id, it in items.items() if isinstance(it, str)}
    all_referred = {f"{other}::" for others in referred.values() for other in others}
    for id, unknown in new.items():
        if not any(other.startswith(f"{id}::") for other in all_referred):
            raise unknown
    for id, others in referred.items():
        for other in others:
            if other not in items:
                causes = [f"; {cause}" for section, cause in replaced.items() if other.startswith(section)]
                hint = causes[-1] if causes else did_you_mean(other, items, "@")
                raise InputError(f"{names}: no @{other}, which {id} refers to{hint}")
    _check_circles(referred, items, names)
    for id, item in items.items():
        if _is_component(item):
            _check_component(item, f"{names}: {id}", parser.locator)
    return {key.removeprefix("+"): f"{place}{shown}" for key, _, place, shown in changes}


def _check_shape(there: Any, value: Any, given: str) -> None:
    """Refuse a value that replaces a component or list by something else; null, references and expressions pass."""
    if value is None or str(value).startswith(("$", "@", "%")):
        return
    if _is_component(there) and not _is_component(value):
        raise InputError(f"{given}: expected a component, such as {{_target_: {there['_target_']}}}")
    if isinstance(there, list) and not isinstance(value, list | tuple):
        raise InputError(f"{given}: expected a list, as it replaces one")


def _check_circles(referred: Mapping[str, Sequence[str]], items: Mapping[str, Any], names: str) -> None:
    """Refuse an item that refers to itself, perhaps by others or from within."""
    graph: dict[str, list[str]] = {id: [*others] for id, others in referred.items()}
    for id in items:
        graph.setdefault(id.rpartition("::")[0], []).append(id)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise InputError(f"{names}: {' -> '.join(error.args[1][::-1])}: refers to itself") from error


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


def _check_component(item: Mapping[str, Any], place: str, locator: Any) -> None:
    """Check that a component's class or function exists; a name without a dot is MONAI's, which `locator` finds."""
    target = str(item["_target_"])
    if str(item.get("_disabled_", "")).lower() == "true" or target.startswith(("$", "@")):
        return
    module, _, name = target.rpartition(".")
    if not module and locator.get_component_module_name(target) is None:
        raise InputError(f"{place}: no class or function {target} of MONAI")
    if module and pydoc.locate(target) is None:
        found = pydoc.locate(module)
        known = [] if found is None else dir(found)
        raise InputError(f"{place}: no class or function {target}{did_you_mean(name, known, f'{module}.')}")


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
    keys = [str(key) for key, value in known.items() if section or not isinstance(value, Mapping)]
    expected = f"expected one of {shortened(keys, most=12)}"
    hint = did_you_mean(part, map(str, known), f"{dashes}{section}", expected)
    return InputError(f"{given}: no such {kind} in {files}{hint}")


def _load(file: str | Path) -> dict[str, Any]:
    """The content of a config file."""
    path = Path(file)
    if not path.is_file():
        near = [each.name for each in path.parent.glob("*.*") if each.name != path.name]
        hint = did_you_mean(path.name, near, f"{path.parent}/", "expected a YAML file")
        raise InputError(f"{file}: {why_no_file(path)}{hint}")
    expected = "a mapping of options, such as {batch_size: 2}"
    content = (valid_json if path.suffix == ".json" else valid_yaml)(path, expected, name=str(file))
    if not isinstance(content, Mapping):
        found = "empty" if content is None else f"of type {type(content).__name__}"
        raise InputError(f"{file}: {found}; expected {expected}")
    return dict(content)
