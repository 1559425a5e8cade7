"""Which columns of a table in memory are labels, splits and groups, by the rules for tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from uml_cache import InputError, choose_column

Asked = str | Literal[False] | None
_ARGUMENTS = {"label": "labels", "split": "splits", "group": "groups"}


def asked(labels: Any, splits: Any, groups: Any) -> dict[str, Asked]:
    """What the arguments of a call say of columns: a name, False where cells were given, None where
    nothing was."""
    given = {"label": labels, "split": splits, "group": groups}
    return {role: one if one is None or isinstance(one, str) else False for role, one in given.items()}


def role_columns(names: Iterable[Any], wanted: Mapping[str, Asked], remarks: list[str]) -> dict[str, Any]:
    """The column of each role, None where there is none; what was chosen goes to `remarks`.

    Raises:
        InputError: two columns fit equally well, or one that was asked for is not there.
    """
    there = {str(name): name for name in names}
    found: dict[str, Any] = {}
    said: list[str] = []
    for role, argument in _ARGUMENTS.items():
        name = wanted.get(role)
        if isinstance(name, str) and name not in there:
            raise InputError(f"{argument}={name!r}: there is no such column; there are {', '.join(there)}")
        try:
            chosen = None if name is False else choose_column(role, there, name, "the table", said)
        except InputError as error:
            raise InputError(_in_python(str(error))) from None
        found[role] = None if chosen is None else there[chosen]
    remarks += map(_in_python, said)
    return found


def _in_python(text: str) -> str:
    for role, argument in _ARGUMENTS.items():
        text = text.replace(f"--{role}-column", f"{argument}=")
    return text
