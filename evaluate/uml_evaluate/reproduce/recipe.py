"""A recipe: which runs repeat a table or a figure, and the numbers that were published for it.

A recipe is a TOML file; `recipes/` holds the shipped ones, and any other file is named by its path. Its keys
are the fields of `Recipe` and, for all its runs, those of `Setting`; `[[variants]]` have a `name` and keys of
`Setting` that differ, tables merged key by key. Reading is strict: an unknown key is answered with the
closest known one, and every setting is checked by the settings that it becomes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from uml_cache.documents import parse_toml
from uml_cache.errors import InputError, unknown
from uml_evaluate.reproduce.published import Published, read_published

KINDS = ("heads", "ssl", "finetune", "gaussian")
TRAIN = (
    "methods", "controls", "shots", "seeds", "grid", "alpha", "ratio", "normalize", "normalize_on",
    "sampling", "aligned", "trunk", "texts",
)  # fmt: skip
FINETUNE = (
    "encoder", "start", "img_size", "patch_size", "views", "freeze", "unfreeze_at", "tune_aux", "aux_lr",
)  # fmt: skip
_SETTING = (
    "datasets", "target", "auxiliaries", "encoders", "transform", "folds", "texts_per_shot", "train", "grid",
    "finetune",
)  # fmt: skip
_TOP = ("title", "paper", "kind", "note", "variants", "shift", "analyses", "boundary", "published")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run is made of.

    Args:
        datasets: names of data sets; each has runs of its own.
        target: `modality[.set]` of the target.
        auxiliaries: the same of each auxiliary, first the one whose space is shared.
        encoders: encoder of every place (`image`, `text.cupl`) or modality (`text`) named above.
        transform: how missing pictures and sounds are extracted, `own` or `paper`.
        folds: number of folds below `data/NAME/folds` that stand for the target's splits; 0: its own.
        texts_per_shot: whether `texts` counts auxiliary samples for each labelled sample of the class.
        train: keys of `TrainSettings`.
        grid: a search grid of its own, with the keys of a grid file; None: the one that `train` names.
        finetune: keys of `FinetuneSettings`; None: heads on features.
    """

    datasets: tuple[str, ...] = ()
    target: str = "image"
    auxiliaries: tuple[str, ...] = ()
    encoders: Mapping[str, str] = field(default_factory=dict)
    transform: str = "own"
    folds: int = 0
    texts_per_shot: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Any] | None = None
    finetune: Mapping[str, Any] | None = None

    def encoder_of(self, place: str) -> str:
        """The encoder of `modality[.set]`. Raises `InputError` where none is named."""
        found = self.encoders.get(place, self.encoders.get(place.partition(".")[0]))
        if found is None:
            raise InputError(f"no encoder for {place}; name it under [encoders]")
        return found


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe, read and checked.

    Args:
        name: the file's.
        title: what it measures.
        paper: where the paper has it.
        kind: `heads` on features, `ssl` (networks without labels), `finetune`, or `gaussian`.
        variants: settings by name; a single one without a name where nothing is varied.
        note: what a reader of the numbers must know.
        shift: data sets that the heads are scored on, too.
        analyses: analyses of the heads, as of `uml eval --analysis`.
        boundary: the two classes that the analysis `boundary` looks at.
        published: tables of printed numbers.
    """

    name: str
    title: str
    paper: str
    kind: str
    variants: Mapping[str, Setting]
    note: str = ""
    shift: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ()
    boundary: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Every data set, once, in order."""
        return tuple(dict.fromkeys(d for s in self.variants.values() for d in s.datasets))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; its name is the file's.

    Raises:
        InputError: no such file, no TOML, unknown keys, values that the settings refuse.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise InputError(f"recipe {path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"recipe {path} is not UTF-8") from None
    return parse_recipe(text, path.stem, str(path))


def parse_recipe(text: str, name: str, where: str, *, check: bool = True) -> Recipe:
    """A recipe from the text of its file; `where` is said in errors.

    Args:
        check: whether its settings are made once (torch is imported for some of them); without that only
            its keys are looked at.

    Raises:
        InputError: no TOML, unknown keys, values that the settings refuse.
    """
    try:
        values = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {where} is not TOML: {error}") from None
    try:
        recipe = _recipe(values, name)
        if check:
            check_recipe(recipe)
    except InputError as error:
        raise InputError(f"recipe {where}: {error}") from None
    return recipe


def _recipe(values: dict[str, Any], name: str) -> Recipe:
    _known(values, (*_TOP, *_SETTING), "key")
    for key in ("title", "kind"):
        if not isinstance(values.get(key), str):
            raise InputError(f"{key} is missing; give it as text")
    kind = values["kind"]
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    base = _setting(Setting(), {k: v for k, v in values.items() if k in _SETTING}, kind)
    variants = {"": base}
    if "variants" in values:
        variants = {}
        for one in _list(values["variants"], "variants", dict):
            _known(one, ("name", *_SETTING), "key of a variant:")
            label = str(one.get("name", ""))
            if not label or label in variants:
                raise InputError(f"variant {label!r}: every variant has a name of its own")
            variants[label] = _setting(base, {k: v for k, v in one.items() if k != "name"}, kind)
    return Recipe(
        name=name,
        title=values["title"],
        paper=_text(values, "paper"),
        kind=kind,
        variants=variants,
        note=_text(values, "note"),
        shift=tuple(_list(values.get("shift", []), "shift", str)),
        analyses=tuple(_list(values.get("analyses", []), "analyses", str)),
        boundary=tuple(_list(values.get("boundary", []), "boundary", str)),
        published=read_published(values.get("published", [])),
    )


def _setting(base: Setting, values: dict[str, Any], kind: str) -> Setting:
    """`base` with some keys replaced; tables are merged key by key."""
    found = dict(values)
    for key, known in (("train", TRAIN), ("finetune", FINETUNE)):
        if key in found:
            if not isinstance(found[key], dict):
                raise InputError(f"{key} is {found[key]!r}; it is a table")
            _known(found[key], known, f"key of [{key}]:")
            found[key] = {**(getattr(base, key) or {}), **found[key]}
    if "encoders" in found:
        if not isinstance(found["encoders"], dict):
            raise InputError("encoders is a table: modality or modality.set = encoder")
        found["encoders"] = {**base.encoders, **_flat(found["encoders"])}
    if "grid" in found:
        if not isinstance(found["grid"], dict):
            raise InputError("grid is a table with the keys of a grid file; [train] grid names a known one")
        found["grid"] = {**(base.grid or {}), **found["grid"]}
    for key in ("datasets", "auxiliaries"):
        if key in found:
            found[key] = tuple(_list(found[key], key, str))
    for one in fields(Setting):
        usual = one.default if isinstance(one.default, str | int) else None
        if usual is not None and one.name in found and type(found[one.name]) is not type(usual):
            raise InputError(f"{one.name} is {found[one.name]!r}; expected a {type(usual).__name__}")
    if kind != "finetune" and found.get("finetune") is not None:
        raise InputError(f"[finetune] belongs to the kind finetune, and this is {kind}")
    return replace(base, **found)


def _flat(encoders: Mapping[str, Any]) -> dict[str, str]:
    """`text = {cupl = NAME}`, which TOML makes of `text.cupl = NAME`, as {"text.cupl": NAME}."""
    found = {}
    for place, value in encoders.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for part, name in inner:
            if not isinstance(name, str):
                raise InputError(f"encoder of {place} is {name!r}; expected a name")
            found[f"{place}.{part}" if part else place] = name
    return found


def check_recipe(recipe: Recipe) -> None:
    """Make every settings object once, so that a recipe that could not run is refused before it runs.

    Raises:
        InputError: a value that the settings refuse, a name that is not there.
    """
    from uml_evaluate.analyses import ANALYSES

    if recipe.kind == "gaussian":
        return
    for name in recipe.analyses:
        if name not in ANALYSES:
            raise unknown("analysis", name, ANALYSES)
    if (recipe.shift or recipe.analyses) and recipe.kind != "heads":
        raise InputError(f"shift and analyses look at heads, and this is of kind {recipe.kind}")
    if recipe.boundary and len(recipe.boundary) != 2:
        raise InputError(f"boundary is {list(recipe.boundary)}; it takes two classes")
    with TemporaryDirectory() as scratch:
        for label, setting in recipe.variants.items():
            _check_setting(recipe, label, setting, Path(scratch))
    known = {"dataset": {*recipe.datasets, *recipe.shift}, "variant": set(recipe.variants)}
    for table in recipe.published:
        for across, name in table.places():
            if across in known and name not in known[across]:
                raise unknown(f"{across} in [[published]] {table.items[0]}:", str(name), known[across])


def _check_setting(recipe: Recipe, label: str, setting: Setting, scratch: Path) -> None:
    from uml_evaluate.reproduce.settings import check_grid, finetune_settings, grid_file, train_settings

    at = f"variant {label}: " if label else ""
    if not setting.datasets:
        raise InputError(f"{at}datasets is missing or empty")
    try:
        settings = train_settings(setting, recipe.kind, setting.auxiliaries)
        if setting.grid is not None:
            settings = replace(settings, grid=str(grid_file(setting.grid, scratch)))
        check_grid(settings, recipe.kind)
        if recipe.kind == "finetune":
            finetune_settings(setting, data="DATA")
        for place in (setting.target, *setting.auxiliaries):
            if recipe.kind != "finetune" or place != setting.target:
                setting.encoder_of(place)
    except InputError as error:
        raise InputError(f"{at}{error}") from None
    except TypeError as error:
        raise InputError(f"{at}a value has the wrong type: {error}") from None
    if setting.texts_per_shot and not isinstance(setting.train.get("texts"), int):
        raise InputError(f"{at}texts_per_shot needs a number of texts")


def _known(values: Mapping[str, Any], known: Iterable[str], kind: str) -> None:
    names = set(known)
    for key in values:
        if key not in names:
            raise unknown(kind, key, names)


def _list(value: Any, key: str, kind: type) -> list[Any]:
    if not isinstance(value, list) or any(not isinstance(item, kind) for item in value):
        what = "tables" if kind is dict else "texts"
        raise InputError(f"{key} is {value!r}; it is a list of {what}")
    return value


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"{key} is {value!r}; give it as text")
    return value
