"""From what a recipe says to the settings and grid files that `uml_train` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache.errors import InputError
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.heads.grid import load_grid
from uml_train.run import write_atomic
from uml_train.settings import TrainSettings, settings_hash

if TYPE_CHECKING:
    from uml_evaluate.reproduce.recipe import Setting

_PLACEHOLDER = Path("feats")


def grid_file(grid: Mapping[str, Any], folder: Path) -> Path:
    """A grid of a recipe as the file that `uml train` takes, named by its content."""
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in sorted(grid.items()))
    path = folder / f"grid-{settings_hash(text)}.toml"
    if not path.is_file():
        write_atomic(path, text.encode())
    return path


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else repr(value)


def check_grid(settings: TrainSettings, kind: str) -> None:
    """Read the grid that settings name. Raises `InputError` where it is refused."""
    if kind == "ssl":
        from uml_train.pretrain.searches import load_pretraining  # torch comes with it

        load_pretraining(settings.grid, alpha=settings.alpha)
    else:
        family = "finetune-" if kind == "finetune" else ""
        load_grid(settings.grid, alpha=settings.alpha, ratio=settings.ratio, family=family)


def train_settings(
    setting: Setting, kind: str, auxiliaries: Sequence[str], *, cache: Path = _PLACEHOLDER, **values: Any
) -> TrainSettings:
    """The settings of one run. `values` replace what the recipe says: places, grid, shots."""
    # The paper's heads are trained by AdamW on features as they are; recipes say where they are not.
    given: dict[str, Any] = {"grid": "quick", "normalize": "none"}
    given |= {key: tuple(v) if isinstance(v, list) else v for key, v in setting.train.items()}
    if kind == "ssl":
        given["objective"] = "ssl"
    configurations = (tuple(auxiliaries),) if auxiliaries else ()
    return TrainSettings(**{"cache": cache, "auxiliaries": configurations, **given, **values})


def finetune_settings(setting: Setting, *, data: str, **values: Any) -> FinetuneSettings:
    """The settings of a fine-tuning. Raises `InputError`."""
    given = dict(setting.finetune or {})
    if "encoder" not in given:
        raise InputError("[finetune] names no encoder")
    if "tune_aux" in given and "aux_data" not in values:
        values["aux_data"] = "DATA"
    return FinetuneSettings(**{**given, "data": data, **values})
