"""Parse command-line text: numbers, names, mappings, or Python literals."""

import ast
import re
import shlex
import warnings
from contextlib import suppress
from typing import Any


def literal(text: str) -> Any:
    """Parse a Python literal, in which quotes are optional, as MONAI's command (python-fire) does; keep other text.

    Example:
        >>> literal("1,1,2"), literal("1e-4"), literal("600 epochs")
        ((1, 1, 2), 0.0001, '600 epochs')
    """
    from fire.parser import DefaultParseValue  # imported here so that configs do not need it

    with warnings.catch_warnings(), suppress(TypeError, RecursionError, MemoryError):  # {[1]: 2}; 100 nested brackets
        warnings.simplefilter("ignore", SyntaxWarning)  # for "1if 1else 2"
        return DefaultParseValue(text)
    return text


def number_or_text(text: str) -> Any:
    """Parse a number of up to 100 characters, such as 5, 0.2 or 1e-4; return other text, such as 1_000, unchanged.

    Example:
        >>> number_or_text("5"), number_or_text("0.2"), number_or_text("2026_11")
        (5, 0.2, '2026_11')
    """
    if len(text) > 100 or not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text, re.IGNORECASE | re.ASCII):
        return text
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def names_of(text: Any) -> list[str]:
    """Return names as a list: text is split at commas, without brackets and quotes; items of a sequence become text.

    Example:
        >>> names_of("['T1', FLAIR]"), names_of("1.10,2026_11")
        (['T1', 'FLAIR'], ['1.10', '2026_11'])
    """
    if isinstance(text, int | float):  # from Python code
        text = str(text)
    if not isinstance(text, str):
        return [str(name).strip() for name in text]
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        quoted = ast.literal_eval(text.strip())
        if isinstance(quoted, list | tuple) and all(isinstance(name, str) for name in quoted):
            return list(quoted)
    inner = match[1] if (match := re.fullmatch(r"\[(.*)\]", text.strip(), re.DOTALL)) else text
    words = shlex.shlex(inner, posix=True)
    words.whitespace, words.whitespace_split, words.commenters, words.escape = ",", True, "", ""
    try:
        return [word.strip() for word in words]
    except ValueError:  # an unmatched quote, as in "it's"
        return [word.strip() for word in inner.split(",")]


def texts_of(text: str) -> Any:
    """Parse a mapping of texts, such as {'T1': '*_T1w.nii.gz'}; return other text unchanged.

    Example:
        >>> texts_of("{'T1': 'a', 2026_11: 1.10}")
        {'T1': 'a', '2026_11': '1.10'}
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    if not isinstance(tree, ast.Dict) or None in tree.keys:
        return text
    pairs = [[_typed(text.strip(), part) for part in pair] for pair in zip(tree.keys, tree.values, strict=True)]
    texts = dict(pairs)
    return texts if len(texts) == len(pairs) else text  # duplicate keys: not a mapping


def _typed(text: str, tree: Any) -> str:
    """Return a string node without its quotes, and any other node as typed."""
    is_text = isinstance(tree, ast.Constant) and isinstance(tree.value, str)
    return str(tree.value if is_text else ast.get_source_segment(text, tree))
