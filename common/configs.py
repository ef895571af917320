"""Check the keys, references and components of a run's configs, overlays and options before MONAI reads them.

MONAI merges configs without checking keys, so a wrong key fails later, with an obscure error.
"""

import os
import pydoc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from . import ROOT
from .errors import ArgumentError, InputError, chain_of, choice, did_you_mean, shortened, show
from .files import valid_json, valid_yaml, why_no_file
from .literals import literal, names_of
from .options import OPTIONS, TRAINING_DEFAULTS, Options, check_plain

# MONAI's option `tracking`, and the options that need it
TRACKING = {"tracking", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
EPOCHS = ("epochs", "max_epochs")  # common guesses for the option `iterations`
BUNDLES, STUDIES = ROOT / "bundles", ROOT / "studies"
OURS = (BUNDLES, STUDIES)


def bundles_with(file: str) -> list[str]:
    """Return the names of the bundles that have this file in configs/."""
    return sorted(path.parents[1].name for path in BUNDLES.glob(f"*/configs/{file}"))


def warn_of_program(path: str | Path) -> None:
    """Warn that a config from outside this repository can run any code.

    Links are resolved first; only the process of rank 0 warns.
    """
    if not _is_ours(path) and os.environ.get("RANK", "0") == "0":
        where = "it is not from bundles/ or studies/; see SECURITY.md"
        show(f"warning: {path}: its expressions run as a program, and {where}", error=True)


def _is_ours(path: str | Path) -> bool:
    return any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in OURS)


def parsed(name: str, text: Any) -> Any:
    """Parse an option's text by its type in `OPTIONS`; parse the text of other options as MONAI's command does.

    Values that are not text, and tracking options, are returned unchanged; an empty text is True.

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
    is_list = isinstance(value, str) and re.fullmatch(r"\[[^][{}'\"]+\]", value)  # a list of paths
    return names_of(value) if is_list else value


def as_data(name: str, value: Any) -> Any:
    r"""Quote an option's value so that MONAI takes it literally: MONAI would evaluate $ and follow @, % and #.

    Raise InputError if a name outside `OPTIONS` has an expression, reference or macro as its value.

    Example:
        >>> print(as_data("output_dir", "/data/$x #1"))
        $'/data/\U00000024x \U000000231'
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
        raise InputError(f"--{name}", "an expression", "a value: only configs and overlays are evaluated", value=value)
    return f"${_quoted(value)}"


def _is_plain(value: Any) -> bool:
    """Return whether MONAI takes a value literally: any value except text with $, @, % or #, or with an initial _."""
    return not isinstance(value, str) or not re.search(r"[$@%#]|^_", value)


def _quoted(value: Any) -> str:
    """Return a Python expression for a value, with MONAI's special characters escaped."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {_quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_quoted, value)) + "]"
    if not isinstance(value, str):
        return repr(value)
    return "'" + re.sub(r"[^\w/. -]", lambda match: rf"\U{ord(match[0]):08x}", value) + "'"


def argument(word: str) -> str:
    """Rewrite `--option=text` so that MONAI's command reads the same value as our commands.

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
    """Build the `ConfigParser` of a run without starting it; later files override earlier files.

    A training config gets the `TRAINING_DEFAULTS` that it lacks. The caller must resolve `imports` before other items.
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


class Change(NamedTuple):
    """A config key and its new value from an overlay (`file`) or an option (no `file`)."""

    key: str
    value: Any
    file: str | Path | None = None

    @property
    def id(self) -> str:
        """The key without the `+` that merges a value into a section."""
        return self.key.removeprefix("+")

    @property
    def source(self) -> str:
        """The option as `--key`, or the overlay's file and key."""
        return f"--{self.key}" if self.file is None else f"{self.file}: {self.key}"

    def error(self, problem: str = "", expected: str = "") -> InputError:
        """Return an error that names this change."""
        return InputError(self.source, problem, expected, self.value)

    def unknown(self, config: Mapping[str, Any], files: str) -> InputError:
        """Return the error for an unknown key; it suggests the most similar key, or else lists the valid keys."""
        dashes, kind = ("--", "option") if self.file is None else ("", "key")
        if self.id in EPOCHS:
            return self.error(f"no such {kind}; did you mean {dashes}iterations='N epochs'?")
        items, (section, mark, name) = dict(_items(config)), self.id.rpartition("::")
        keys = {key.rpartition("::")[2]: item for key, item in items.items() if key.rpartition("::")[0] == section}
        if not keys:
            return self.error(f"no such {kind} in {files}{did_you_mean(self.id, items, dashes)}")
        values = [key for key, item in keys.items() if section or not isinstance(item, Mapping)]
        hint = did_you_mean(name, keys, f"{dashes}{section}{mark}", f"expected one of {shortened(values, most=12)}")
        return self.error(f"no such {kind} in {files}{hint}")


@contextmanager
def naming_overlays(overlays: Sequence[str | Path], options: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: an `ArgumentError` about a value from a user's overlay file names that file and its key."""
    try:
        yield
    except Exception as error:
        refused = next((link for link in chain_of(error) if isinstance(link, ArgumentError)), None)
        if refused is not None and refused.what not in (name.removeprefix("+") for name in options):
            for file in reversed([file for file in overlays if not _is_ours(file)]):
                if {refused.what, f"+{refused.what}"} & _load(file).keys():
                    change = Change(refused.what, refused.value, file)
                    raise change.error(refused.problem, refused.expected) from error
        raise


def check_known(options: Mapping[str, Any], files: Sequence[str | Path]) -> None:
    """Raise `InputError` for an option that none of the configs has."""
    parser = read(files)
    for change in (Change(name, value) for name, value in options.items()):
        if change.id in EPOCHS or change.key not in parser:
            raise change.unknown(parser.config, ", ".join(map(str, files)))


def check_values(files: Sequence[str | Path], options: Mapping[str, Any]) -> Options:
    """Return a run's options; refuse unknown options and invalid values. This imports neither MONAI nor PyTorch.

    Expressions and references in configs are neither checked nor returned; `common.options.read` checks them later.
    """
    contents = [_load(file) for file in files]
    merged = {key.removeprefix("+"): value for content in contents for key, value in content.items()}
    texts = "".join(Path(file).read_text(encoding="utf-8") for file in files)
    for name, value in options.items():
        key = name.removeprefix("+")
        is_named = key in merged or key in TRACKING or (key in TRAINING_DEFAULTS and "ckpt_dir" in merged)
        is_known = is_named or "::" in key or re.search(rf"@{re.escape(key)}\b", texts)
        if key in EPOCHS or not is_known:
            raise Change(name, value).unknown(merged, ", ".join(map(str, files)))
    defaults = TRAINING_DEFAULTS if "ckpt_dir" in merged else {}
    if any(re.match(r"\+?tasks::|\+tasks", key) for change in (*contents, options) for key in change):
        merged.pop("tasks", None)  # MONAI merges the parts later
    return check_plain({**defaults, **merged, **options}, texts=options)


def check(files: Sequence[str | Path], options: Mapping[str, Any]) -> list[Change]:
    """Check the files, keys, references and component names of a run; return the changes from overlays and options.

    A new key is accepted if it is an argument of a component, or if a reference uses it.
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
        raise InputError(files[0], "an overlay", "a config that runs by itself, such as train")
    changes = []
    for file, overlay in zip(files[1:], overlays, strict=True):
        if {"bundle_root", "run"} <= overlay.keys():
            raise InputError(file, "a config that runs by itself", f"an overlay, which changes {files[0]}")
        changes += [Change(key, value, file) for key, value in overlay.items()]
    for_monai = set()
    if options.get("tracking") is not None:
        for_monai = TRACKING
        choice("tracking", options["tracking"], {"mlflow": None})
    changes += [Change(key, value) for key, value in options.items() if key not in for_monai]
    new: dict[str, InputError] = {}
    replaced: dict[str, str] = {}
    for change in changes:
        id, value = change.id, change.value
        if value is None and change.file is None:
            raise change.error("MONAI ignores None; write null, or leave the option out")
        section = id.rpartition("::")[0]
        parent = parser.get(section, None) if section else {}
        if not all(id.split("::")) or id in EPOCHS or not isinstance(parent, dict | list):
            raise change.unknown(parser.config, names)
        if id not in parser and not _is_component(parent):
            new[id] = change.unknown(parser.config, names)
        if id == change.key and id not in OPTIONS:
            _check_kind(parser.get(id, None), change)
        if id == change.key and isinstance(value, Mapping) and id in parser:
            replaced[f"{id}::"] = f"{change.source} replaces the whole section; +{id} changes a part of it"
        merge_kv(parser, change.key, as_data(id, value) if change.file is None else value)
    try:
        parser.resolve_macro_and_relative_ids()
    except Exception as error:  # MONAI's, for a text that begins with %
        problem = f"MONAI reads % as a reference to a config file ({error})"
        culprits = [change.error(problem) for change in changes if "%" in str(change.value)]
        raise (culprits[0] if culprits else InputError(names, problem)) from error

    items = dict(_items(parser.config))
    referred = {id: list(ReferenceResolver.match_refs_pattern(it)) for id, it in items.items() if isinstance(it, str)}
    all_referred = {f"{target}::" for targets in referred.values() for target in targets}
    for id, unknown in new.items():
        if not any(target.startswith(f"{id}::") for target in all_referred):
            raise unknown
    for id, targets in referred.items():
        for target in targets:
            if target not in items:
                causes = [f"; {cause}" for section, cause in replaced.items() if target.startswith(section)]
                hint = causes[-1] if causes else did_you_mean(target, items, "@")
                raise InputError(names, f"no @{target}, which {id} refers to{hint}")
    _check_cycles(referred, items, names)
    for id, item in items.items():
        if _is_component(item):
            _check_component(item, f"{names}: {id}", parser.locator)
    return changes


def _check_kind(current: Any, change: Change) -> None:
    """Refuse to replace a component or list by a different kind of value; accept null, references and expressions."""
    if change.value is None or str(change.value).startswith(("$", "@", "%")):
        return
    if _is_component(current) and not _is_component(change.value):
        raise change.error(expected=f"a component, such as {{_target_: {current['_target_']}}}")
    if isinstance(current, list) and not isinstance(change.value, list | tuple):
        raise change.error(expected="a list, because it replaces a list")


def _check_cycles(referred: Mapping[str, Sequence[str]], items: Mapping[str, Any], names: str) -> None:
    """Refuse an item that refers to itself: directly, through other items, or from an item nested in it."""
    graph: dict[str, list[str]] = {id: [*targets] for id, targets in referred.items()}
    for id in items:
        graph.setdefault(id.rpartition("::")[0], []).append(id)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise InputError(names, f"{' -> '.join(error.args[1][::-1])}: refers to itself") from error


def _items(config: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each nested item of a config with its MONAI id, such as `train::handlers::0`."""
    if id:
        yield id, config
    if isinstance(config, Mapping | list):
        for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
            if key != "_meta_":
                yield from _items(value, f"{id}::{key}" if id else str(key))


def _is_component(item: Any) -> bool:
    return isinstance(item, Mapping) and "_target_" in item


def _check_component(item: Mapping[str, Any], where: str, locator: Any) -> None:
    """Check that a component's class or function exists; `locator` looks up names without a dot in MONAI."""
    target = str(item["_target_"])
    if str(item.get("_disabled_", "")).lower() == "true" or target.startswith(("$", "@")):
        return
    module, _, name = target.rpartition(".")
    if not module and locator.get_component_module_name(target) is None:
        raise InputError(where, f"no class or function {target} of MONAI")
    if module and pydoc.locate(target) is None:
        parent = pydoc.locate(module)
        candidates = [] if parent is None else dir(parent)
        raise InputError(where, f"no class or function {target}{did_you_mean(name, candidates, f'{module}.')}")


def _load(file: str | Path) -> dict[str, Any]:
    path = Path(file)
    if not path.is_file():
        near = [sibling.name for sibling in path.parent.glob("*.*") if sibling.name != path.name]
        hint = did_you_mean(path.name, near, f"{path.parent}/", "expected a YAML file")
        raise InputError(file, why_no_file(path) + hint)
    expected = "a mapping of options, such as {batch_size: 2}"
    content = (valid_json if path.suffix == ".json" else valid_yaml)(path, expected, name=str(file))
    if not isinstance(content, Mapping):
        problem = "empty" if content is None else f"of type {type(content).__name__}"
        raise InputError(file, problem, expected)
    return dict(content)
