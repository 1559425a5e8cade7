"""`--scale small`: a recipe made short, on real data at hand, with encoders at hand in place of missing ones.

What stands for what is said before anything is extracted, and the tables name the encoders that were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from uml_cache import InputError, Output
from uml_evaluate.reproduce.recipe.recipe import Recipe, Setting
from uml_evaluate.reproduce.supply import Sources, Supply
from uml_extract import list_encoders, weights_at_hand
from uml_manifests import resolve_data

# The first that is on this machine stands for a missing one of its modality; the last always is.
_STAND_INS = {
    "image": ("dinov2_vits14", "efficientnet_lite0", "hog-color"),
    "text": ("minilm_l6", "hashed-ngrams"),
    "audio": ("clap", "log-mel"),
}
_TOKENS = {"image": "pixels"}  # of those at hand the one that gives tokens
_GRIDS: dict[str, dict[str, Any]] = {
    "heads": {"lr": [0.01, 0.001], "batch_size": [8], "steps": 400, "warmup": 20, "eval_every": 20},
    "ssl": {"lr": [0.001], "width": [20], "epochs": 5, "layers": 2, "heads": 5, "feedforward": 64},
    "finetune": {"lr": [0.00005], "batch_size": [16], "steps": 60, "warmup": 5, "eval_every": 20},
}


def at_hand(recipe: Recipe, sources: Sources, output: Output) -> tuple[Recipe, Sources]:
    """The recipe with few seeds and steps and with encoders that are here, and where its data lies.

    A folder `--data` that holds no benchmark of the recipe but one folder for each modality (`image`, `text`,
    …) stands in place of all its data sets.

    Raises:
        InputError: the folder holds neither.
    """
    swapped: dict[str, str] = {}
    own, folders = _own_data(recipe, sources)
    variants = {
        name: _short(setting, recipe, sources, swapped, own) for name, setting in recipe.variants.items()
    }
    for old, new in swapped.items():
        output.say(f"{old} is not on this machine: {new} stands for it")
    if own is not None:
        output.say(f"{sources.data} is {own}, which stands for {', '.join(recipe.datasets)}")
    named = "; ".join(f"{new} for {old}" for old, new in swapped.items())
    note = f"Encoders at hand: {named}. " if named else ""
    shift = () if own is not None else recipe.shift
    boundary = () if own is not None else recipe.boundary
    found = replace(
        recipe, variants=variants, published=(), shift=shift, boundary=boundary,
        note=f"{note}{recipe.note}".strip(),
    )  # fmt: skip
    return found, replace(sources, folders={**sources.folders, **folders})


def _short(
    setting: Setting, recipe: Recipe, sources: Sources, swapped: dict[str, str], own: str | None
) -> Setting:
    train = dict(setting.train)
    shots = list(train.get("shots", [1, 4]))
    train["shots"] = shots[:1] + shots[2:3] if len(shots) > 2 else shots
    train["seeds"] = [1, 2, 3] if recipe.analyses else [1, 2]
    train.pop("grid", None)
    tokens = recipe.kind == "ssl"
    encoders = {
        place: _encoder(name, place.partition(".")[0], sources, tokens, swapped)
        for place, name in setting.encoders.items()
    }
    tuning = setting.finetune
    if tuning is not None:
        tuning = {**tuning, "encoder": _trainable(str(tuning["encoder"]), sources, swapped)}
    auxiliaries = tuple(_place(place, sources, own) for place in setting.auxiliaries)
    return replace(
        setting, encoders={_place(p, sources, own): e for p, e in encoders.items()}, auxiliaries=auxiliaries,
        target=_place(setting.target, sources, own), train=train, finetune=tuning, transform="own",
        folds=min(setting.folds, 1) if own is None else 0,
        datasets=setting.datasets if own is None else (own,),
        grid=None if (recipe.protocol, recipe.kind) == ("fair", "heads") else _GRIDS[recipe.kind],
    )  # fmt: skip


def _place(place: str, sources: Sources, own: str | None) -> str:
    """Descriptions that nobody gave are class names in a sentence; data of one's own has no sets."""
    modality, _, chosen = place.partition(".")
    if own is not None:
        return modality
    return f"{modality}.vanilla" if chosen == "cupl" and sources.descriptions is None else place


def _encoder(name: str, modality: str, sources: Sources, tokens: bool, swapped: dict[str, str]) -> str:
    if name not in list_encoders() or weights_at_hand(name, sources.weights.get(name)):
        return name
    if tokens and modality in _TOKENS:
        swapped[name] = _TOKENS[modality]
    else:
        swapped[name] = next(one for one in _STAND_INS[modality] if weights_at_hand(one))
    return swapped[name]


def _trainable(name: str, sources: Sources, swapped: dict[str, str]) -> str:
    if weights_at_hand(name, sources.weights.get(name)) or name.startswith("patches:"):
        return name
    other = next((one for one in _STAND_INS["image"][:-1] if weights_at_hand(one)), None)
    if other is not None:
        swapped[name] = other
    return other or name


def _own_data(recipe: Recipe, sources: Sources) -> tuple[str | None, Mapping[tuple[str, str], Path]]:
    """The name of a data set that lies in `--data` itself, and the folders of its modalities."""
    root = sources.data
    if root is None or any(_is_there(recipe, dataset, sources) for dataset in recipe.datasets):
        return None, {}
    places = {
        place.partition(".")[0]
        for setting in recipe.variants.values()
        for place in (setting.target, *setting.auxiliaries)
    }
    lacking = sorted(place for place in places if not (root / place).is_dir())
    if lacking:
        raise InputError(
            f"{root} holds none of {', '.join(recipe.datasets)}, and no folder {lacking[0]} of a data set of "
            "your own; it needs one for each modality, as `uml data build shapes` writes them"
        )
    folders = {place: root / place for place in sorted(places)}
    names = {resolve_data(path, modality=place).name for place, path in folders.items()}
    if len(names) > 1:
        raise InputError(f"the folders of {root} are of several data sets: {', '.join(sorted(names))}")
    (name,) = names
    return name, {(name, place): path for place, path in folders.items()}


def _is_there(recipe: Recipe, dataset: str, sources: Sources) -> bool:
    supply = Supply(sources)
    return supply.has_data(dataset, recipe.variants[next(iter(recipe.variants))].target)
