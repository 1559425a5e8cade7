"""Protocols: sets of defaults over the declared settings. `protocols.toml` says which, and where from.

`fair` is what the settings are declared with. A protocol changes what is not given by hand, and a run records
which of its values are not the protocol's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from uml_cache import declared, unknown
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.settings import PROTOCOLS, TrainSettings

FAIR = PROTOCOLS[0]
_BASES = {
    "heads": "every", "joint": "heads", "esc": "heads", "finetune": "every", "multibench": "every",
    "mosi": "multibench", "multibench-large": "multibench", "vision-text": "every",
}  # fmt: skip
_NAMED_SCOPES = ("esc", "joint", "mosi", "multibench-large", "vision-text")
SCOPE_OF_WAY = {"train": "heads", "finetune": "finetune", "pretrain": "multibench"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting in one scope: its value under every protocol, and where these come from.

    `fair` is None where nothing of the kind exists there, as axes of a grid that no head is trained with.
    """

    scope: str
    setting: str
    fair: Any
    paper: Any
    authors: Any
    source: str

    def value(self, protocol: str) -> Any:
        """The value under a protocol."""
        return getattr(self, protocol)


@cache
def protocol_rows() -> tuple[Row, ...]:
    """Every row of the file, in its order; `fair` is filled in from the declarations."""
    text = (files("uml_train.protocols") / "protocols.toml").read_text(encoding="utf-8")
    return tuple(
        Row(
            scope=one["scope"],
            setting=one["setting"],
            fair=one.get("fair", _declared(one["setting"])),
            paper=one["paper"],
            authors=one.get("authors", one["paper"]),
            source=one["source"],
        )
        for one in tomllib.loads(text)["rows"]
    )


def _declared(setting: str) -> Any:
    known = {**declared(FinetuneSettings), **declared(TrainSettings)}
    default = known[setting].default if setting in known else None
    return list(default) if isinstance(default, tuple) else default


def rows_of(scope: str) -> dict[str, Row]:
    """The rows that hold in a scope, by setting: its own before those of the scope it stands on."""
    base = rows_of(_BASES[scope]) if scope in _BASES else {}
    return base | {row.setting: row for row in protocol_rows() if row.scope == scope}


def protocol_value(protocol: str, scope: str, setting: str) -> Any:
    """The value of one setting."""
    return rows_of(scope)[setting].value(protocol)


def protocol_defaults(protocol: str, scope: str, kind: type[Any] = TrainSettings) -> dict[str, Any]:
    """What a protocol changes of the defaults of `TrainSettings` or `FinetuneSettings`, by setting.

    Raises:
        InputError: an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if protocol == FAIR:
        return {}
    known = declared(kind)
    found = {row.setting: row.value(protocol) for row in rows_of(scope).values() if row.setting in known}
    if scope in ("joint", "esc") and "grid" in found:
        found["grid"] = f"{protocol}-{scope}"
    return {name: known[name].read(value, name) for name, value in found.items()}


def settings_under(protocol: str, scope: str = "heads", **given: Any) -> TrainSettings:
    """The settings of a protocol where `given` says nothing.

    Args:
        scope: what is trained, as `protocols.toml` names it.

    Raises:
        InputError: an unknown protocol, a value that is not allowed.
    """
    return TrainSettings(**{**protocol_defaults(protocol, scope), **given, "protocol": protocol})


def protocol_grid(protocol: str, scope: str) -> dict[str, Any]:
    """Axes and lengths of the grid that a protocol has in a scope, as a grid file has them."""
    found = rows_of(scope)
    return {
        name.removeprefix("grid."): row.value(protocol)
        for name, row in found.items()
        if name.startswith("grid.")
    }


def scope_of(settings: TrainSettings, *, joint: bool = False, finetune: bool = False) -> str:
    """The scope of a run: what its grid is for, by its name or the end of it; `joint` where encoders share a
    space."""
    if finetune:
        return "finetune"
    name = Path(settings.grid).stem.removesuffix("-authors")
    named = next((scope for scope in _NAMED_SCOPES if name == scope or name.endswith(f"-{scope}")), None)
    if settings.objective != "supervised":
        found = named or "multibench"
        return "mosi" if found == "multibench" and settings.probe == "liblinear" else found
    return named or ("joint" if joint else "heads")


def deviations(
    scope: str, *given: TrainSettings | FinetuneSettings, protocol: str
) -> dict[str, dict[str, Any]]:
    """Settings that are not as the protocol has them: the run's value and the protocol's, by setting."""
    found: dict[str, dict[str, Any]] = {}
    for settings in given:
        wanted = protocol_defaults(protocol, scope, type(settings))
        values: Mapping[str, Any] = settings.to_json()
        for name, value in wanted.items():
            plain = list(value) if isinstance(value, tuple) else value
            if values.get(name, getattr(settings, name)) != plain:
                found[name] = {"run": values.get(name), "protocol": plain}
    for settings in given:
        if isinstance(settings, TrainSettings):
            for axis in ("alpha", "ratio"):
                chosen = getattr(settings, axis)
                usual = protocol_grid(protocol, scope).get(axis, [1.0])
                if protocol != FAIR and chosen is not None and list(chosen) != usual:
                    found[f"grid.{axis}"] = {"run": list(chosen), "protocol": usual}
    return found


def protocol_text(record: Mapping[str, Any] | None) -> str:
    """How tables name a run's protocol: `paper`, or `paper, but grid` where the run deviates; "" for fair."""
    if record is None or record["name"] == FAIR:
        return ""
    changed = ", ".join(record["deviations"])
    return f"{record['name']}, but {changed}" if changed else str(record["name"])
