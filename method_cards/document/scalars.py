"""What an unquoted scalar means: YAML 1.2, and an error where YAML 1.1 would have read something else."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

Plain: TypeAlias = str | int | float | bool | None

_WORDS: dict[str, Plain] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

_BOOLEANS_OF_1_1 = {
    form: meaning
    for meaning, words in (("true", ("y", "yes", "on")), ("false", ("n", "no", "off")))
    for word in words
    for form in (word, word.capitalize(), word.upper())
}

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_INTEGER = 40

_SURPRISES = (
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number to base 60"),
    (re.compile(r"[-+]?0o?[0-9_]+"), "a number to base 8"),
    (re.compile(r"[-+]?0b[01_]+"), "a number to base 2"),
    (re.compile(r"(?=.*_)[-+]?(0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)"), "a number with digits in groups"),
    (re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)"), "an infinite number or none at all"),
)


class AmbiguousError(ValueError):
    """An unquoted scalar that two versions of YAML read in two ways, or that is no finite number."""


def plain(text: str) -> Plain:
    """The value of an unquoted scalar.

    Args:
        text: The scalar.

    Returns:
        None, a boolean, a number, or the text itself. Dates stay text.

    Raises:
        AmbiguousError: Versions of YAML disagree about it; the message says what to write.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text in _BOOLEANS_OF_1_1:
        meaning = _BOOLEANS_OF_1_1[text]
        raise AmbiguousError(f'YAML 1.1 reads {text} as {meaning}: write {meaning}, or "{text}" in quotes for the text')
    if text[0] in "+-.0123456789":
        return _number(text)
    return text


def _number(text: str) -> Plain:
    if _INTEGER.fullmatch(text):
        if len(text) > _LONGEST_INTEGER:
            raise AmbiguousError(f"a number of {len(text)} digits: put it in quotes if it is text")
        return int(text, 0)
    for pattern, meaning in _SURPRISES:
        if pattern.fullmatch(text):
            raise AmbiguousError(
                f'{text} can be read as {meaning}: write a decimal number, or "{text}" in quotes for the text'
            )
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise AmbiguousError(f'{text} is too large for a number: put it in quotes if it is text, "{text}"')
        return value
    return text
