"""The config of a run: its files and what a command line changes in them, checked before anything is built.

MONAI merges overlays and options without a look at their keys, and reports a wrong value from deep inside. `check`
refuses what can be known from the text; `blame` names the change whose component cannot be built.
"""

import ast
import difflib
import inspect
import os
import pydoc
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .cli import options_of
from .errors import InputError, chain_of, one_line, shortened

__all__ = ["blame", "check", "check_command_line", "check_known", "parsed", "read"]

Changes = dict[str, str]  # what overlays and options change, by id: each as it was given
RUNNING = ("initialize", "run", "finalize")  # what they resolve to is the run itself, with all its errors
TRACKING = {"tracking_uri", "experiment_name", "run_name", "save_execute_config"}  # MONAI's options of --tracking
PACKAGES = ("losses", "optimizers", "transforms", "handlers", "inferers", "networks.nets", "engines", "data", "metrics")


def check_command_line(argv: Sequence[str]) -> Changes:
    """Check the configs and options of `python -m monai.bundle run`.

    Args:
        argv: the command line in the form of `sys.argv`; commands other than `monai.bundle run` are ignored.

    Returns:
        What the command line changes in its first config file; see `check`.

    Raises:
        InputError: see `check`.
    """
    if len(argv) < 2 or not argv[0].endswith("bundle/__main__.py") or argv[1] != "run":
        return {}
    positional, given = options_of(argv[2:])
    return check(dict(zip(("run_id", "init_id", "final_id"), positional, strict=False)) | given)


def check(given: Mapping[str, Any]) -> Changes:
    """Check the configs of a run and the options that change them.

    Args:
        given: the options by name, as `monai.bundle.run` takes them; text is read as python-fire reads it.

    Returns:
        What overlays and options change, by id: each as it was given, such as `--learning_rate=1`.

    Raises:
        InputError: a file is missing or holds no options; a key is unknown; a reference, an expression or a component
            is invalid.
    """
    from monai.bundle import run  # here because it is slow to import

    if "args_file" in given:
        given = {**_load(given["args_file"], f"--args_file={given['args_file']}"), **given}
    for name in ("meta_file", "logging_file"):
        for file in _files(given.get(name)):
            if not Path(file).is_file():
                raise InputError(f"--{name}={file}: no such file")
    files = _files(given.get("config_file"))
    if not files:
        raise InputError("--config_file: missing; expected a file such as configs/train.yaml")
    own = set(inspect.signature(run).parameters) | {"workflow_type", "help"}
    if parsed(given.get("tracking")) is not None:
        own |= TRACKING
        _check_tracking(parsed(given["tracking"]), parsed(given.get("tracking_uri")))
    merged = _Merged(files, own)
    for name, value in given.items():
        if name not in own:
            merged.change(name, parsed(value), f"--{name}={value}")
    merged.check()
    for name, expected in (("run_id", "run"), ("init_id", "initialize"), ("final_id", "finalize")):
        id = str(given.get(name) or expected)
        if id not in merged.parser and (name in given or name == "run_id"):  # without the others, MONAI does nothing
            raise InputError(f"--{name}={id}: no such key in {merged.names}; expected {expected}")
    return merged.changes


def _check_tracking(tracking: Any, uri: Any) -> None:
    """Check the options of MONAI's experiment tracking, which it would report with a traceback."""
    if isinstance(tracking, Mapping):
        return
    if tracking != "mlflow":
        if not (isinstance(tracking, str) and Path(tracking).is_file()):
            raise InputError(f"--tracking={tracking}: expected mlflow, or a file with settings of MONAI's tracking")
        return
    if find_spec("mlflow") is None:
        raise InputError("--tracking=mlflow: no module mlflow; expected it in this environment: pip install mlflow")
    for name, value in (("MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI")), ("--tracking_uri", uri)):
        if value and ("://" not in str(value) or str(value).startswith("file:")):
            raise InputError(f"{name}={value}: expected a server, such as http://localhost:5000, or sqlite:///FILE.db")


def check_known(given: Mapping[str, Any], files: Sequence[str | Path]) -> None:
    """Refuse options that none of some config files has.

    Args:
        given: values of the options by name.
        files: the config files.

    Raises:
        InputError: an option is not a key of the configs.
    """
    parser = read(files)
    for name, value in given.items():
        if name in ("epochs", "max_epochs") or name not in parser:
            raise _unknown(name, f"--{name}={value}", parser.config, ", ".join(map(str, files)))


def parsed(value: Any) -> Any:
    """The value of an option as MONAI's command reads it, which is python-fire: Python's literals, else text.

    Args:
        value: text as on a command line, "" for an option without a value; anything else is a value already.

    Example:
        >>> parsed("1,1,2"), parsed("1e-4"), parsed("600 epochs"), parsed("")
        ((1, 1, 2), 0.0001, '600 epochs', True)
    """
    from fire.parser import DefaultParseValue  # here, so that configs do not need it

    if value == "":
        return True
    return DefaultParseValue(value) if isinstance(value, str) else value


def read(files: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> Any:
    """The `ConfigParser` of a run that is not started.

    Args:
        files: its configs, each over the ones before.
        options: that its command line sets, as values (see `parsed`). A caller that resolves content resolves `imports`
            first.
    """
    from monai.bundle import ConfigParser  # here because it is slow to import

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    for name, value in (options or {}).items():
        parser[name] = value
    return parser


def blame(error: BaseException, changes: Changes) -> str | None:
    """The change whose component cannot be built, and why, in one line; None if none is to blame.

    Args:
        error: raised while MONAI resolved the config.
        changes: as `check` returns them.
    """
    chain = list(chain_of(error))
    for link in reversed(chain):
        if (id := _resolved_id(link)) is not None:
            culprit = None if id.split("::")[0] in RUNNING else _change_of(id, changes)
            return None if culprit is None else f"{culprit}: {id} cannot be built: {one_line(chain[-1])}"
    return None


def _resolved_id(error: BaseException) -> str | None:
    """The id of the config item that MONAI was resolving when an exception was raised."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "_resolve_one_item":
            found = str(trace.tb_frame.f_locals["id"])
        trace = trace.tb_next
    return found


def _change_of(id: str, changes: Changes) -> str | None:
    """The change of an item, of a part of it, or of what it is a part of."""
    related = [key for key in changes if f"{id}::".startswith(f"{key}::") or key.startswith(f"{id}::")]
    return changes[max(related, key=len)] if related else None


class _Merged:
    """Config files as MONAI merges them.

    Attributes:
        parser: the merged config.
        changes: what overlays and options change.
        names: of the files.
    """

    def __init__(self, files: Sequence[str], own: Collection[str]) -> None:
        from monai.bundle import ConfigParser  # here because it is slow to import

        self.files, self.names, self._own = files, ", ".join(files), own
        self.parser, self.changes = ConfigParser({}), Changes()
        self._new: dict[str, InputError] = {}  # keys that no earlier file has, which something may refer to
        first, *overlays = (_load(file, f"--config_file={file}") for file in files)
        for key, value in first.items():
            self._merge(key, value)
        self._components = {id: item["_target_"] for id, item in _items(self.parser.config) if _is_component(item)}
        for file, overlay in zip(files[1:], overlays, strict=True):
            for key, value in overlay.items():
                text = str(value)
                self.change(key, value, f"{file}: {key}: {text if len(text) <= 160 else f'{text[:156]} ...'}")

    def change(self, key: str, value: Any, given: str) -> None:
        """Change the value of a key, as an overlay or an option does."""
        from monai.bundle import ReferenceResolver

        id = ReferenceResolver.normalize_id(str(key)).removeprefix("+")
        if not id:
            raise InputError(f"{given}: no name; expected that of an option")
        if id in ("epochs", "max_epochs") or not self._has_place(id):
            raise _unknown(id, given, self.parser.config, self.names, self._own)
        if id not in self.parser and not self._is_argument(id):
            self._new[id] = _unknown(id, given, self.parser.config, self.names, self._own)
        if value is None and given.startswith("--") and self.parser.get(id) is not None:
            raise InputError(f"{given}: MONAI ignores None; write null, or leave the option out")
        self._merge(str(key), value)
        self.changes[id] = given

    def check(self) -> None:
        """Check keys, references, expressions and components."""
        self._check_macros()
        self.parser.resolve_macro_and_relative_ids()
        items = dict(_items(self.parser.config))
        referred = {id for item in items.values() for id in _references(item)}
        for id, error in self._new.items():
            if not any(f"{other}::".startswith(f"{id}::") for other in referred):
                raise error
        for id, item in items.items():
            if isinstance(item, str):
                self._check_text(id, item, items)
            elif _is_component(item):
                _check_component(item, self._given(id, item["_target_"]))
        for id, target in self._components.items():
            item = items.get(id)
            if id in self.changes and not _is_component(item) and not str(item).startswith(("$", "@")):
                raise InputError(f"{self.changes[id]}: expected a component, such as {{'_target_': '{target}', ...}}")

    def _merge(self, key: str, value: Any) -> None:
        from monai.bundle.utils import merge_kv

        try:
            merge_kv(self.parser, key, value)
        except ValueError as error:
            raise InputError(f"{self.names}: {key}: + merges a mapping or a list only, not {value}") from error

    def _has_place(self, id: str) -> bool:
        section = id.rpartition("::")[0]
        return not section or (section in self.parser and isinstance(self.parser[section], dict | list))

    def _is_argument(self, id: str) -> bool:
        section = id.rpartition("::")[0]
        return bool(section) and _is_component(self.parser[section])

    def _given(self, id: str, value: Any) -> str:
        """A value of the config as it was given."""
        return _change_of(id, self.changes) or f"{self.files[0]}: {id}: {value}"

    def _check_macros(self) -> None:
        """Check `%key` and `%file::key`."""
        for id, text in _items(self.parser.config):
            if isinstance(text, str) and text.startswith("%"):
                file, key = self.parser.split_path_id(text[1:])
                known = type(self.parser)(_load(file, self._given(id, text))) if file else self.parser
                if key not in known:
                    raise InputError(f"{self._given(id, text)}: no {key} in {file or self.names}")

    def _check_text(self, id: str, text: str, items: Mapping[str, Any]) -> None:
        """Check the references of a text, and its syntax if it is an expression."""
        for other in _references(text):
            if other not in items and (change := _change_of(other, self.changes)):
                raise InputError(f"{change}: leaves no {other}, which {id} refers to")
            if other not in items:
                near = difflib.get_close_matches(other, items, n=1)
                hint = f"; did you mean @{near[0]}?" if near else ""
                raise InputError(f"{self._given(id, text)}: no @{other} in {self.names}{hint}")
        if text.startswith("$"):
            try:
                ast.parse(text[1:].replace("@", "").replace("::", "_"))
            except SyntaxError as error:
                raise InputError(f"{self._given(id, text)}: not a Python expression: {error.msg}") from error


def _items(config: Any, id: str = "") -> Iterator[tuple[str, Any]]:
    """A config's items by id, as MONAI counts them."""
    if id:
        yield id, config
    if isinstance(config, Mapping | list):
        for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
            if key != "_meta_":
                yield from _items(value, f"{id}::{key}" if id else str(key))


def _is_component(item: Any) -> bool:
    return isinstance(item, Mapping) and "_target_" in item


def _references(item: Any) -> Collection[str]:
    """The ids that a text refers to."""
    from monai.bundle import ReferenceResolver

    return ReferenceResolver.match_refs_pattern(item) if isinstance(item, str) else ()


def _check_component(item: Mapping[str, Any], given: str) -> None:
    """Check that a component exists, and that it takes the arguments by name."""
    from monai.bundle import ConfigComponent

    target, mode = item["_target_"], item.get("_mode_", "default")
    if str(item.get("_disabled_", "")).lower() == "true" or (isinstance(target, str) and target[:1] in "$@"):
        return
    if mode not in ("default", "callable", "debug"):
        raise InputError(f"{given}: _mode_ {mode}: expected default or callable")
    arguments = item.keys() - ConfigComponent.non_arg_keys
    component = _locate(target, given)
    try:
        signature = inspect.signature(component)
    except (TypeError, ValueError):  # some of C have none
        return
    try:
        (signature.bind if mode == "default" else signature.bind_partial)(**dict.fromkeys(arguments))
    except TypeError as error:
        others = sorted(arguments - signature.parameters.keys())
        near = difflib.get_close_matches(others[0], signature.parameters, n=1) if others else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{given}: {target}: {error}{hint}") from error


def _locate(target: Any, given: str) -> Any:
    """The class or function that a component names."""
    if not isinstance(target, str) or not target:
        raise InputError(f"{given}: _target_ {target}: expected the name of a class or function")
    module = _locator().get_component_module_name(target)
    path = f"{module if isinstance(module, str) else module[0]}.{target}" if module else target
    try:
        found = pydoc.locate(path)
    except pydoc.ErrorDuringImport as error:
        raise InputError(f"{given}: {target}: {one_line(error.value or error)}") from error
    if found is None:
        near = difflib.get_close_matches(target, _names_beside(target), n=1)
        hint = f"did you mean {near[0]}?" if near else "expected one of MONAI, or a full name such as torch.optim.SGD"
        raise InputError(f"{given}: no class or function {target}; {hint}")
    return found


@cache
def _locator() -> Any:
    """MONAI's table of its classes and functions, which takes a moment to build."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _names_beside(target: str) -> list[str]:
    """Names that may have been meant: those of the module, or MONAI's."""
    module, _, _ = target.rpartition(".")
    if module:
        found = pydoc.locate(module)
        return [f"{module}.{name}" for name in dir(found)] if found is not None else []
    return [name for package in PACKAGES for name in dir(pydoc.locate(f"monai.{package}"))]


def _unknown(id: str, given: str, config: Any, files: str, own: Collection[str] = ()) -> InputError:
    """The error for a key that no config has, with the nearest one."""
    dashes, kind = ("--", "option") if given.startswith("--") else ("", "key")
    if id in ("epochs", "max_epochs"):
        value = given.partition("=")[2] if dashes else given.rpartition(": ")[2]
        equals = f"='{value} epochs'" if dashes else f": {value} epochs"
        return InputError(f"{given}: no such {kind}; did you mean {dashes}iterations{equals}?")
    section, known = "", config
    for part in id.split("::"):
        if not isinstance(known, Mapping) or part not in known:
            break
        section, known = f"{section}{part}::", known[part]
    if not isinstance(known, Mapping):
        parts = f"has {len(known)} items" if isinstance(known, list) else "has no keys"
        return InputError(f"{given}: no such {kind} in {files}; {section.removesuffix('::')} {parts}")
    keys = [str(key) for key, value in known.items() if section or not _is_structure(str(key), value)]
    near = difflib.get_close_matches(part, [*map(str, known), *(() if section else own)], n=1)
    hint = f"did you mean {dashes}{section}{near[0]}?" if near else f"expected one of {shortened(keys, most=12)}"
    return InputError(f"{given}: no such {kind} in {files}; {hint}")


def _is_structure(key: str, value: Any) -> bool:
    """Whether a key at the top of a config is part of the workflow, not an option."""
    return isinstance(value, Mapping) or key in ("_meta_", "imports", "initialize", "run", "finalize")


def _files(value: Any) -> list[str]:
    """File names as MONAI takes them: one, a list, or several separated by commas."""
    value = parsed(value)
    if isinstance(value, str) and "," in value and not Path(value).is_file():
        value = value.split(",")
    names = value if isinstance(value, list | tuple) else [value]
    return [str(name) for name in names if name not in (None, "", True, False)]


def _load(file: str, given: str) -> dict[str, Any]:
    """The content of a config file."""
    from monai.bundle import ConfigParser

    path, expected = Path(file), 'options by name, such as "batch_size: 2"'
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [each.name for each in path.parent.glob("*.*")], n=1)
        raise InputError(f"{given}: no such file{f'; did you mean {path.parent / near[0]}?' if near else ''}")
    try:
        content = ConfigParser.load_config_file(file)
    except Exception as error:  # PyYAML's classes are not imported: packages, whose configs are JSON, do without it
        if (mark := getattr(error, "problem_mark", None)) is not None:
            problem = getattr(error, "problem", "")
            raise InputError(f"{given}: not YAML: line {mark.line + 1}: {problem}") from error
        raise InputError(f"{given}: cannot be read: {one_line(error)}") from error
    if content is None:
        raise InputError(f"{given}: empty; expected {expected}")
    if not isinstance(content, Mapping):
        raise InputError(f"{given}: holds a {type(content).__name__}; expected {expected}")
    return {str(key): value for key, value in content.items()}
