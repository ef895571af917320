"""The program in a file of `torch.save`, checked before it runs: it makes tensors and plain values, in bounded work."""

import pickletools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from ..errors import InputError

MOST = 1_000_000  # steps and values, each as often as it occurs; a large network with its optimizer takes 100,000
HIGHEST = 1 << 80  # old files begin with a number of 77 bits
OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # that number
OLD_PARTS = 5  # pickles of an old file: the number, a version, the machine, the content, the names of the storages
REMEDY = "whoever made it can save the tensors alone with torch.save({'state_dict': model.state_dict()}, 'G.pt')"

DICT = "collections.OrderedDict"
CALLED = {DICT, "torch.device"}
CALLED |= {f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")}
NAMED = re.compile(r"torch\.(\w+Storage|bool|u?int\d+|b?float\d+|complex\d+)")
IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # these change the value below what they take
NUMBERS = {"BININT", "BININT1", "BININT2", "BINFLOAT", "NEWTRUE", "NEWFALSE"}  # LONG1 has many numbers of one hash
KEYS = {"BINUNICODE", "SHORT_BINSTRING", "NONE"} | NUMBERS


@dataclass(slots=True)
class Value:
    """A value on the program's stack: the step that made it, the values that it holds, and whether another holds it."""

    kind: str
    size: int = 1
    is_held: bool = False


def check(path: Path, is_archive: bool) -> None:
    """Refuse a program that calls more than tensors need, or that makes more than `MOST` values.

    PyTorch's reader without unpickling (`weights_only=True`) runs such programs: 1 kB of nested tuples that share their
    items takes years to hash, as a key.

    Raises:
        InputError: with the reason and the remedy, without the file's name.
    """
    if is_archive:
        with ZipFile(path) as archive:
            for name in archive.namelist():
                if name.lower().endswith("data.pkl"):
                    _follow(pickletools.genops(archive.read(name)))
    else:
        with path.open("rb") as file:
            _follow(chain.from_iterable(pickletools.genops(file) for _ in range(OLD_PARTS)))


def _follow(program: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> None:
    """Run a program with sizes in place of values."""
    stack: list[Value] = []
    marks: list[int] = []
    memo: dict[int, Value] = {}
    count = 0
    for opcode, argument, _ in program:
        name = opcode.name
        count += 1
        if name in ("STOP", "PROTO"):
            stack, marks, memo = [], [], {}
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            taken = _taken(opcode, stack, marks)
            size = sum(value.size for value in taken)
            count += size
            called = argument.replace(" ", ".") if name == "GLOBAL" else ""
            _check_step(name, called or argument, [value.kind for value in taken])
            if name not in IN_PLACE:
                stack.append(Value(called or name, 1 + size))
            elif stack[-1].is_held:
                raise InputError("a list or dictionary changes after another holds it, or holds itself")
            else:
                stack[-1].size += size
        if count > MOST:
            raise InputError(f"more than {MOST} values, each counted as often as it occurs")


def _taken(opcode: pickletools.OpcodeInfo, stack: list[Value], marks: list[int]) -> list[Value]:
    """Take from the stack what a step needs."""
    if pickletools.markobject in opcode.stack_before:
        start = marks.pop()
    else:
        start = len(stack) - len(opcode.stack_before) + (opcode.name in IN_PLACE)
    taken = stack[start:]
    del stack[start:]
    for value in taken:
        value.is_held = True
    return taken


def _check_step(name: str, argument: Any, kinds: list[str]) -> None:
    """Refuse a call of what no tensor needs, a number of too many digits, and a key that is not plain."""
    if name == "GLOBAL" and argument not in CALLED and not NAMED.fullmatch(argument):
        if argument.startswith(("torch._utils.", "torch._tensor.")):
            raise InputError(f"it needs {argument}: a tensor that is not dense; expected plain numbers such as float32")
        raise InputError(f"it needs {argument}, and unpickling can run any code; {REMEDY}")
    if name == "REDUCE" and (kinds[0] not in CALLED or (kinds[0] == DICT and kinds[1] != "EMPTY_TUPLE")):
        raise InputError(f"it calls {kinds[0]} as torch.save never does; {REMEDY}")
    if name in ("SETITEM", "SETITEMS") and (odd := set(kinds[::2]) - KEYS):
        raise InputError(f"a key of a dictionary is of the kind {min(odd)}; expected text or a number")
    if isinstance(argument, int) and abs(argument) >= HIGHEST:
        raise InputError("a number of too many digits")
