"""From what a recipe says to the settings and grid files that `uml_train` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, toml_text
from uml_train import STEPPED, FinetuneSettings, TrainSettings, load_grid, settings_hash, write_atomic

if TYPE_CHECKING:
    from uml_evaluate.reproduce.recipe.recipe import Setting

_PLACEHOLDER = Path("feats")


def grid_file(grid: Mapping[str, Any], folder: Path) -> Path:
    """A grid of a recipe as the file that `uml train` takes, named by its content."""
    text = toml_text(dict(sorted(grid.items())))
    path = folder / f"grid-{settings_hash(text)}.toml"
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
    setting: Setting, kind: str, auxiliaries: Sequence[str], *, cache: Path = _PLACEHOLDER, **values: Any
) -> TrainSettings:
    """The settings of one run. `values` replace what the recipe says: places, grid, shots."""
    usual: dict[str, Any] = {"cache": cache, "auxiliaries": (tuple(auxiliaries),) if auxiliaries else ()}
    if kind != "finetune":
        # The paper's heads are trained by AdamW on features as they are; recipes say where they are not.
        usual |= STEPPED
    objective = {"objective": "ssl"} if kind == "ssl" else {}
    return TrainSettings(**{**usual, **setting.train, **objective, **values})


def finetune_settings(setting: Setting, *, data: str, **values: Any) -> FinetuneSettings:
    """The settings of a fine-tuning. Raises `InputError`."""
    given = dict(setting.finetune or {})
    if "encoder" not in given:
        raise InputError("[finetune] names no encoder")
    if "tune_aux" in given and "aux_data" not in values:
        values["aux_data"] = "DATA"
    return FinetuneSettings(**{**given, "data": data, **values})
