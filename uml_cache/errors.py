"""The two ways a command can fail, and the exit status each one has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What the user gave is wrong: one line that says what was got and how to fix it. Exit status 2."""

    exit_code = 2


class WorkError(RuntimeError):
    """The input was fine and the work failed all the same (or a check found damage). Exit status 1."""

    exit_code = 1


class Remark(UserWarning):
    """Something that a person should know and that stops nothing; `uml` prints it as one line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the `known` ones; it offers the closest of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
