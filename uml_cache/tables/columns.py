"""Which column of a table is what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from uml_cache.errors import InputError, unknown
from uml_cache.tables.names import clean_name

PLAIN: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "ids"),
    "text": ("text", "texts"),
    "path": ("path", "paths"),
    "label": ("label", "labels"),
    "split": ("split", "splits"),
    "group": ("group", "groups"),
    "features": ("features",),
}
ROLES = ("text", "path", "label", "split", "id", "group")  # the columns that options name
USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("caption", "sentence", "sentence1", "sentence2", "content"),
    "label": ("class", "cls", "target", "targets", "y", "fine_label"),
    "features": ("feature", "embeddings", "embedding", "pooled", "feats", "x"),
}
_NEAR = 0.8  # of a column whose name is nearly a known one it is unlikely that it means something else


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The columns that a person named (`--text-column` and so on); None: by the rules."""

    text: str | None = None
    path: str | None = None
    label: str | None = None
    split: str | None = None
    id: str | None = None
    group: str | None = None


def option_of(role: str) -> str:
    """The option that names the column of a role."""
    return "--features" if role == "features" else f"--{role}-column"


def choose_column(
    role: str,
    names: Iterable[str],
    given: str | None,
    where: str,
    remarks: list[str],
    *,
    usual: Sequence[str] | None = None,
) -> str | None:
    """The column of a role among `names`; None where there is none. What needs saying goes to `remarks`.

    Args:
        role: A key of `PLAIN`.
        given: The column that the person named.
        usual: Other names that count for the role, in place of `USUAL`.

    Raises:
        InputError: `given` is not there, several columns fit, or one is nearly called so; it names the
            option.
    """
    names = list(names)
    if given is not None:
        return _named(role, names, given, where)
    others = USUAL.get(role, ()) if usual is None else usual
    plain = [name for name in names if _key(name) in PLAIN[role]]
    known = [name for name in names if _key(name) in others]
    option = option_of(role)
    if len(plain) > 1 or (not plain and len(known) > 1):
        raise InputError(
            f"{where}: {' and '.join(map(repr, plain or known))} may both be the {role} column; "
            f"say which one with {option}"
        )
    if plain:
        if known:
            remarks.append(
                f"using column {plain[0]!r} as {role}, not {', '.join(map(repr, known))}; {option} "
                "chooses another"
            )
        return plain[0]
    if known:
        remarks.append(
            f"no column is called {PLAIN[role][0]!r}: using {known[0]!r}; {option} chooses another"
        )
        return known[0]
    every = {one for each in (*PLAIN.values(), *USUAL.values()) for one in each}
    strange = [name for name in names if _key(name) not in every]
    for name in strange:
        if get_close_matches(_key(name), PLAIN[role], n=1, cutoff=_NEAR):
            raise InputError(
                f"{where}: unknown column {name!r}; did you mean {PLAIN[role][0]}? "
                f"Rename it, or name the right one with {option}"
            )
    return None


def _named(role: str, names: Sequence[str], given: str, where: str) -> str:
    if given in names:
        return given
    near = [name for name in names if _key(name) == _key(given)]
    if len(near) == 1:
        return near[0]
    raise InputError(f"{where}: {option_of(role)}: {unknown('column', given, names)}")


def _key(name: str) -> str:
    return clean_name(str(name)).casefold()
