"""From what a recipe says to the settings and grid files that `uml_train` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, toml_text
from uml_train import (
    UNRELATED,
    FinetuneSettings,
    TrainSettings,
    load_grid,
    protocol_defaults,
    protocol_value,
    settings_hash,
    write_atomic,
)

if TYPE_CHECKING:
    from uml_evaluate.reproduce.recipe.recipe import Setting

_PLACEHOLDER = Path("feats")
_FAIR = "fair"
_SCOPES = {"heads": "heads", "finetune": "finetune", "ssl": "multibench"}


def scope_for(setting: Setting, kind: str) -> str:
    """Which rows of the protocols hold for a recipe's run."""
    return setting.setup or _SCOPES[kind]


def grid_file(grid: Mapping[str, Any], folder: Path, setup: str = "") -> Path:
    """A grid of a recipe as the file that `uml train` takes, named by its content and its setup."""
    text = toml_text(dict(sorted(grid.items())))
    path = folder / f"grid-{settings_hash(text)}{f'-{setup}' if setup else ''}.toml"
    if not path.is_file():
        write_atomic(path, text.encode())
    return path


def check_grid(settings: TrainSettings, kind: str) -> None:
    """Read the grid that settings name. Raises `InputError` where it is refused."""
    if kind == "ssl":
        from uml_train import load_pretraining  # torch comes with it

        load_pretraining(settings.grid, alpha=settings.alpha)
    else:
        family = "finetune-" if kind == "finetune" else ""
        load_grid(settings.grid, alpha=settings.alpha, ratio=settings.ratio, family=family)


def train_settings(
    setting: Setting,
    kind: str,
    auxiliaries: Sequence[str],
    *,
    protocol: str,
    cache: Path = _PLACEHOLDER,
    **values: Any,
) -> TrainSettings:
    """The settings of one run: the protocol's, what the recipe says, and `values`, each before the last.

    The paper has no controls but unrelated texts (Table 24); those of a recipe are the protocol `fair`'s.
    """
    scope = scope_for(setting, kind)
    usual: dict[str, Any] = {"cache": cache, "auxiliaries": (tuple(auxiliaries),) if auxiliaries else ()}
    usual |= protocol_defaults(protocol, scope)
    if protocol == _FAIR and kind != "heads":
        # Nothing but heads is solved at once: the paper's search, with as many candidates for every method.
        usual["grid"] = protocol_value("paper", scope, "grid")
    given = dict(setting.train)
    if protocol != _FAIR:
        given["controls"] = [c for c in given.get("controls", ()) if c.startswith(UNRELATED)]
    objective = {"objective": "ssl"} if kind == "ssl" else {}
    return TrainSettings(**{**usual, **given, **objective, **values, "protocol": protocol})


def finetune_settings(setting: Setting, *, data: str, protocol: str, **values: Any) -> FinetuneSettings:
    """The settings of a fine-tuning. Raises `InputError`."""
    usual = protocol_defaults(protocol, "finetune", FinetuneSettings)
    given = {**usual, **(setting.finetune or {})}
    if "encoder" not in given:
        raise InputError("[finetune] names no encoder")
    if "tune_aux" in given and "aux_data" not in values:
        values["aux_data"] = "DATA"
    return FinetuneSettings(**{**given, "data": data, **values})
