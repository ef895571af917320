"""Check the pickle program in a `torch.save` file before it runs: only tensors, numbers, text and containers."""

import pickletools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError

MOST = 1_000_000  # steps and values, counted at each occurrence; a large network with its optimizer takes 100,000
HIGHEST = 1 << 80  # limit of whole numbers; files from before PyTorch 1.6 begin with a magic number of 77 bits
OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickled magic number
PROTOCOL = 2
OLD_PARTS = 5  # pickles in files from before PyTorch 1.6: magic number, version, machine, content, storage names
REMEDY = "the file's author can save the tensors alone with torch.save({'state_dict': model.state_dict()}, 'G.pt')"

METADATA = "_metadata"  # the only attribute that state dicts have
DICT = "collections.OrderedDict"
CALLED = {DICT, "torch.device"}
CALLED |= {f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")}
NAMED = re.compile(r"torch\.(\w+Storage|bool|u?int\d+|b?float\d+|complex\d+)")
IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # steps that change the value below their operands
# Kinds of dictionary keys; not LONG1, because many long integers share a hash
KEYS = {"BINUNICODE", "SHORT_BINSTRING", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT"}


@dataclass(slots=True)
class Value:
    """A value on the stack of a pickle program.

    Attributes:
        kind: Pickle opcode that made the value, or the dotted name of a global, such as torch.device.
        size: Number of values: the value itself and all values that it contains.
        is_held: Whether another value contains this value.
        text: Content of a string.
        keys: String keys of a dictionary.
    """

    kind: str
    size: int = 1
    is_held: bool = False
    text: str = ""
    keys: frozenset[str] = frozenset()


def check(path: Path, is_archive: bool) -> None:
    """Refuse a file whose pickle program calls more than tensors need (`CALLED`), or makes more than `MOST` values.

    PyTorch's safe reader (`weights_only=True`) does not bound the work: hashing 1 kB of nested tuples with shared items
    takes years.

    Raises:
        InputError: the program is refused or damaged; the message does not name the file.
    """
    try:
        if is_archive:  # torch.load's reader, because zipfile may find a different archive in the same bytes
            record = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
            _follow(pickletools.genops(record))
        else:
            with path.open("rb") as file:
                for _ in range(OLD_PARTS):
                    _follow(pickletools.genops(file))
    except LookupError as error:  # a step reads beyond the stack or memo
        raise InputError("a damaged pickle; expected a complete file of torch.save") from error


def _follow(program: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> None:
    """Simulate a program with the sizes of its values instead of the values, and check each step."""
    stack: list[Value] = []
    marks: list[int] = []
    memo: dict[int, Value] = {}
    count = 0
    for opcode, argument, position in program:
        name = opcode.name
        count += 1
        if name == "PROTO":
            if count > 1 or argument != PROTOCOL:
                raise InputError(
                    f"pickle protocol {argument} at byte {position}; expected {PROTOCOL}, as torch.save writes"
                )
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name != "STOP":
            operands = _pop_operands(opcode, stack, marks)
            size = sum(value.size for value in operands)
            count += size
            called = argument.replace(" ", ".") if name == "GLOBAL" else ""
            _check_step(name, called or argument, operands)
            if name in IN_PLACE:
                _extend(stack[-1], name, operands, size)
            else:
                stack.append(Value(called or name, 1 + size, text=argument if isinstance(argument, str) else ""))
        if count > MOST:
            raise InputError(f"more than {MOST} values, each counted as often as it occurs")


def _extend(container: Value, name: str, operands: list[Value], size: int) -> None:
    """Add values to a list or dictionary; refuse a container that another value holds, as its size counts already."""
    if container.is_held:
        raise InputError("a list or dictionary contains itself, or is changed after it was put into another value")
    container.size += size
    if name in ("SETITEM", "SETITEMS"):
        container.keys |= {key.text for key in operands[::2]}


def _pop_operands(opcode: pickletools.OpcodeInfo, stack: list[Value], marks: list[int]) -> list[Value]:
    if pickletools.markobject in opcode.stack_before:
        start = marks.pop()
    else:
        start = len(stack) - len(opcode.stack_before) + (opcode.name in IN_PLACE)
    if start < 0 or (opcode.name in IN_PLACE and not start):
        raise IndexError("the stack is too short")
    operands = stack[start:]
    del stack[start:]
    for value in operands:
        value.is_held = True
    return operands


def _check_step(name: str, argument: Any, operands: list[Value]) -> None:
    """Refuse calls that no tensor needs, attributes except `METADATA`, unusual keys, and numbers beyond `HIGHEST`."""
    kinds = [value.kind for value in operands]
    if name == "GLOBAL" and argument not in CALLED and not NAMED.fullmatch(argument):
        if argument.startswith(("torch._utils.", "torch._tensor.")):
            raise InputError(argument, "unsupported tensor type", "dense tensors of a numeric type such as float32")
        raise InputError(f"needs {argument}, and unpickling can run any code; {REMEDY}")
    if name == "REDUCE" and (kinds[0] not in CALLED or (kinds[0] == DICT and kinds[1] != "EMPTY_TUPLE")):
        raise InputError(f"calls {kinds[0]} as torch.save never does; {REMEDY}")
    if name == "BUILD" and operands[0].keys != {METADATA}:  # attributes such as `items` would replace methods
        names = ", ".join(sorted(operands[0].keys))[:80] or "unnamed"
        raise InputError(f"attributes of a dictionary: {names}; expected only {METADATA}")
    if name in ("SETITEM", "SETITEMS") and (unsupported := set(kinds[::2]) - KEYS):
        raise InputError(f"a dictionary key of type {min(unsupported)}; expected text or a number")
    if isinstance(argument, int) and abs(argument) >= HIGHEST:
        raise InputError("a number with too many digits")
