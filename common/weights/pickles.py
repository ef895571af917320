"""The program in a file of `torch.save`, checked before it runs: it makes tensors and plain values, in bounded work."""

import pickletools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError

MOST = 1_000_000  # steps and values, each as often as it occurs; a large network with its optimizer takes 100,000
HIGHEST = 1 << 80  # old files begin with a number of 77 bits
OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # that number
PROTOCOL = 2
OLD_PARTS = 5  # pickles of an old file: the number, a version, the machine, the content, the names of the storages
REMEDY = "whoever made it can save the tensors alone with torch.save({'state_dict': model.state_dict()}, 'G.pt')"

METADATA = "_metadata"  # attribute of a state dict
DICT = "collections.OrderedDict"
CALLED = {DICT, "torch.device"}
CALLED |= {f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")}
NAMED = re.compile(r"torch\.(\w+Storage|bool|u?int\d+|b?float\d+|complex\d+)")
IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # these change the value below their operands
# Kinds of keys, without LONG1: many long integers share a hash
KEYS = {"BINUNICODE", "SHORT_BINSTRING", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"}


@dataclass(slots=True)
class Value:
    """A value on the program's stack.

    `kind` is the step that made it, or the name of a global; `size` counts the values that it holds, `is_held` states
    that another value holds it. `text` is that of a string, and `keys` those of a dictionary's strings.
    """

    kind: str
    size: int = 1
    is_held: bool = False
    text: str = ""
    keys: frozenset[str] = frozenset()


def check(path: Path, is_archive: bool) -> None:
    """Refuse a program that calls anything but constructors of tensors, or makes more than `MOST` values.

    PyTorch's own reader without unpickling (`weights_only=True`) bounds neither: to hash 1 kB of nested tuples that
    share their items takes years.

    Raises:
        InputError: with the reason and the remedy, without the file's name.
    """
    try:
        if is_archive:  # by the reader of torch.load: another one may see another archive in the same bytes
            record = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
            _follow(pickletools.genops(record))
        else:
            with path.open("rb") as file:
                for _ in range(OLD_PARTS):
                    _follow(pickletools.genops(file))
    except LookupError as error:  # a step takes what is not there
        raise InputError("a damaged pickle; expected a complete file of torch.save") from error


def _follow(program: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> None:
    """Run one program with sizes in place of values."""
    stack: list[Value] = []
    marks: list[int] = []
    memo: dict[int, Value] = {}
    count = 0
    for opcode, argument, place in program:
        name = opcode.name
        count += 1
        if name == "PROTO":
            if count > 1 or argument != PROTOCOL:
                raise InputError(
                    f"pickle protocol {argument} at byte {place}; expected {PROTOCOL}, as torch.save writes"
                )
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name != "STOP":
            taken = _taken(opcode, stack, marks)
            size = sum(value.size for value in taken)
            count += size
            called = argument.replace(" ", ".") if name == "GLOBAL" else ""
            _check_step(name, called or argument, taken)
            if name in IN_PLACE:
                _change(stack[-1], name, taken, size)
            else:
                stack.append(Value(called or name, 1 + size, text=argument if isinstance(argument, str) else ""))
        if count > MOST:
            raise InputError(f"more than {MOST} values, each counted as often as it occurs")


def _change(container: Value, name: str, taken: list[Value], size: int) -> None:
    """Put values into a list or dictionary, which no other value may hold yet: its size would be that of before."""
    if container.is_held:
        raise InputError("a list or dictionary changes after another holds it, or holds itself")
    container.size += size
    if name in ("SETITEM", "SETITEMS"):
        container.keys |= {key.text for key in taken[::2]}


def _taken(opcode: pickletools.OpcodeInfo, stack: list[Value], marks: list[int]) -> list[Value]:
    """Take from the stack what a step needs."""
    if pickletools.markobject in opcode.stack_before:
        start = marks.pop()
    else:
        start = len(stack) - len(opcode.stack_before) + (opcode.name in IN_PLACE)
    if start < 0 or (opcode.name in IN_PLACE and not start):
        raise IndexError("the stack is too short")
    taken = stack[start:]
    del stack[start:]
    for value in taken:
        value.is_held = True
    return taken


def _check_step(name: str, argument: Any, taken: list[Value]) -> None:
    """Refuse a call of what no tensor needs, a number of too many digits, and a key that is not plain."""
    kinds = [value.kind for value in taken]
    if name == "GLOBAL" and argument not in CALLED and not NAMED.fullmatch(argument):
        if argument.startswith(("torch._utils.", "torch._tensor.")):
            raise InputError(
                f"it needs {argument}", "an unsupported kind of tensor", "dense ones of numbers such as float32"
            )
        raise InputError(f"it needs {argument}, and unpickling can run any code; {REMEDY}")
    if name == "REDUCE" and (kinds[0] not in CALLED or (kinds[0] == DICT and kinds[1] != "EMPTY_TUPLE")):
        raise InputError(f"it calls {kinds[0]} as torch.save never does; {REMEDY}")
    if name == "BUILD" and taken[0].keys != {METADATA}:  # attributes such as `items` would replace methods
        raise InputError(f"attributes of a dictionary, {', '.join(sorted(taken[0].keys))[:80]}; expected {METADATA}")
    if name in ("SETITEM", "SETITEMS") and (odd := set(kinds[::2]) - KEYS):
        raise InputError(f"a key of a dictionary is of the kind {min(odd)}; expected text or a number")
    if isinstance(argument, int) and abs(argument) >= HIGHEST:
        raise InputError("a number of too many digits")
