"""A recipe: which runs repeat a table or a figure, and the numbers that were published for it.

A recipe is a TOML file; `recipes/` holds the shipped ones, and any other file is named by its path. Its keys
are the fields of `Recipe` and, for all its runs, those of `Setting`; `[[variants]]` have a `name` and keys of
`Setting` that differ, tables merged key by key. Reading is strict: an unknown key is answered with the
closest known one, and every setting is checked by the settings that it becomes.
"""

# Annotations are not postponed here: they hold the declarations, and those are values.

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from uml_cache import InputError, Settings, declared, parse_toml, read_table, unknown
from uml_cache import Setting as Declared
from uml_evaluate.reproduce.feature_files import FeatureFile, read_files
from uml_evaluate.reproduce.recipe.published import Published, read_published
from uml_train import PROTOCOLS, FinetuneSettings, TrainSettings

TRAIN = {name: s for name, s in declared(TrainSettings).items() if s.role == "choice"}
del TRAIN["protocol"]  # the recipe's own key
SETUPS = ("esc", "multibench", "mosi", "multibench-large", "vision-text")
FINETUNE = {n: s for n, s in declared(FinetuneSettings).items() if s.role == "choice" or n == "encoder"}


@dataclass(frozen=True, kw_only=True)
class Setting(Settings):
    """What a run is made of."""

    # fmt: off
    datasets: Annotated[tuple[str, ...], Declared("Names of data sets; each has runs of its own.")] = ()
    target: Annotated[str, Declared("`modality[.set]` of the target.")] = "image"
    auxiliaries: Annotated[tuple[str, ...], Declared(
        "The same of each auxiliary, first the one whose space is shared.",
    )] = ()
    encoders: Annotated[dict, Declared(
        "Encoder of every place (`image`, `text.cupl`) or modality (`text`) named above.",
        takes="a table: modality or modality.set = encoder",
    )] = field(default_factory=dict)
    transform: Annotated[str, Declared("How what is missing is extracted: own or paper.")] = "own"
    setup: Annotated[str, Declared(
        "Which rows of the protocols hold (`protocols.toml`). Default: those of the kind.",
        choices=("", *SETUPS),
    )] = ""
    folds: Annotated[int, Declared(
        "Number of folds below `data/NAME/folds` that stand for the target's splits. 0: its own.",
    )] = 0
    texts_per_shot: Annotated[bool, Declared(
        "Whether `texts` counts auxiliary samples for each labelled sample of the class.",
    )] = False
    train: Annotated[dict, Declared("The choices of `TrainSettings`.")] = field(default_factory=dict)
    grid: Annotated[dict | None, Declared(
        "A search grid of its own; without one that which `train` names.",
        takes="a table with the keys of a grid file; [train] grid names a known one",
    )] = None
    finetune: Annotated[dict | None, Declared(
        "The encoder and the choices of `FinetuneSettings`; without it heads on features.",
    )] = None
    # fmt: on

    def encoder_of(self, place: str) -> str:
        """The encoder of `modality[.set]`. Raises `InputError` where none is named."""
        found = self.encoders.get(place, self.encoders.get(place.partition(".")[0]))
        if found is None:
            raise InputError(f"no encoder for {place}; name it under [encoders]")
        return found


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """A recipe, read and checked.

    Args:
        name: the file's.
        variants: settings by name; a single one without a name where nothing is varied.
        published: tables of printed numbers.
        files: features that lie beside the data.
    """

    name: str
    # fmt: off
    title: Annotated[str, Declared("What it measures.")]
    paper: Annotated[str, Declared("Where the paper has it.")] = ""
    kind: Annotated[str, Declared(
        "`heads` on features, `ssl` (networks without labels), `finetune`, or `gaussian`.",
        choices=("heads", "ssl", "finetune", "gaussian"),
    )]
    variants: Mapping[str, Setting]
    protocol: Annotated[str, Declared(
        "Whose settings hold where the recipe says nothing: fair, paper or authors.", choices=PROTOCOLS,
    )] = "fair"
    note: Annotated[str, Declared("What a reader of the numbers must know.")] = ""
    shift: Annotated[tuple[str, ...], Declared("Data sets that the heads are scored on, too.")] = ()
    analyses: Annotated[tuple[str, ...], Declared("Analyses of the heads, as of `uml eval --analysis`.")] = ()
    boundary: Annotated[tuple[str, ...], Declared("The two classes of the analysis `boundary`.")] = ()
    probes: Annotated[tuple[str, ...], Declared(
        "Probes and rivals that are fitted to the same draws, such as textbook.",
    )] = ()
    baselines: Annotated[tuple[str, ...], Declared(
        "Methods without unpaired data: the strongest of them on the test rows, at each number of shots, is "
        "what `verdicts` are measured against.",
    )] = ()
    verdicts: Annotated[tuple[str, ...], Declared(
        "Methods whose difference to the best baseline is tested, corrected for their number.",
    )] = ()
    published: tuple[Published, ...] = ()
    files: tuple[FeatureFile, ...] = ()
    # fmt: on

    @property
    def datasets(self) -> tuple[str, ...]:
        """Every data set, once, in order."""
        return tuple(dict.fromkeys(d for s in self.variants.values() for d in s.datasets))


_TOP = [one.name for one in fields(Recipe) if one.name != "name"]


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
    for key in values:
        if key not in (*_TOP, *declared(Setting)):
            raise unknown("key", key, [*_TOP, *declared(Setting)])
    for key in ("title", "kind"):
        if key not in values:
            raise InputError(f"{key} is missing; give it as text")
    own = read_table({k: v for k, v in values.items() if k in declared(Recipe)}, declared(Recipe), "key")
    base = _setting(Setting(), {k: v for k, v in values.items() if k in declared(Setting)}, own["kind"])
    variants = {} if "variants" in values else {"": base}
    for one in values.get("variants", ()):
        label = str(one.get("name", "")) if isinstance(one, dict) else ""
        if not label or label in variants:
            raise InputError(f"variant {label!r}: every variant is a table with a name of its own")
        rest = {k: v for k, v in one.items() if k != "name"}
        variants[label] = _setting(base, rest, own["kind"], f"variant {label}: ")
    published = read_published(values.get("published", []))
    given = read_files(values.get("files", []))
    return Recipe(**own, name=name, variants=variants, published=published, files=given)


def _setting(base: Setting, values: dict[str, Any], kind: str, at: str = "") -> Setting:
    """`base` with some keys replaced; tables are merged key by key. `at` begins errors about a value."""
    found = read_table(values, declared(Setting), f"key of {at or 'a recipe:'}".rstrip(), at)
    for key, known in (("train", TRAIN), ("finetune", FINETUNE)):
        if key in found:
            found[key] = read_table(found[key], known, f"key of [{key}]:", at)
    if "encoders" in found:
        found["encoders"] = _flat(found["encoders"])
    for key in found.keys() & {"train", "finetune", "encoders", "grid"}:
        found[key] = {**(getattr(base, key) or {}), **found[key]}
    if kind != "finetune" and "finetune" in found:
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
    from uml_evaluate.analyses import ANALYSES, ON_NETWORKS
    from uml_evaluate.comparing.rows import PROBES

    if recipe.kind == "gaussian":
        return
    for name in recipe.analyses:
        if name not in ANALYSES:
            raise unknown("analysis", name, ANALYSES)
        if (name in ON_NETWORKS) != (recipe.kind == "ssl") or recipe.kind == "finetune":
            raise InputError(f"the analysis {name} cannot look at the kind {recipe.kind}")
    for name in recipe.probes:
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    if bool(recipe.verdicts) != bool(recipe.baselines):
        raise InputError("verdicts are measured against baselines; give both")
    if (recipe.probes or recipe.verdicts) and recipe.kind != "heads":
        raise InputError(f"probes and verdicts look at heads, and this is of kind {recipe.kind}")
    if recipe.shift and recipe.kind != "heads":
        raise InputError(f"shift looks at heads, and this is of kind {recipe.kind}")
    if recipe.boundary and len(recipe.boundary) != 2:
        raise InputError(f"boundary is {list(recipe.boundary)}; it takes two classes")
    with TemporaryDirectory() as scratch:
        for label, setting in recipe.variants.items():
            for protocol in dict.fromkeys((recipe.protocol, *PROTOCOLS)):
                _check_setting(replace(recipe, protocol=protocol), label, setting, Path(scratch))
    known = {"dataset": {*recipe.datasets, *recipe.shift}, "variant": set(recipe.variants)}
    for table in recipe.published:
        for across, name in table.places():
            if across in known and name not in known[across]:
                raise unknown(f"{across} in [[published]] {table.items[0]}:", str(name), known[across])


def _check_setting(recipe: Recipe, label: str, setting: Setting, scratch: Path) -> None:
    from uml_evaluate.reproduce.recipe.settings import (
        check_grid,
        finetune_settings,
        grid_file,
        train_settings,
    )

    at = f"variant {label}: " if label else ""
    if not setting.datasets:
        raise InputError(f"{at}datasets is missing or empty")
    try:
        protocol = recipe.protocol
        settings = train_settings(setting, recipe.kind, setting.auxiliaries, protocol=protocol)
        if setting.grid is not None:
            settings = replace(settings, grid=str(grid_file(setting.grid, scratch, setting.setup)))
        check_grid(settings, recipe.kind)
        if recipe.kind == "finetune":
            finetune_settings(setting, data="DATA", protocol=protocol)
        for place in (setting.target, *setting.auxiliaries):
            if recipe.kind != "finetune" or place != setting.target:
                setting.encoder_of(place)
    except InputError as error:
        raise InputError(f"{at}{error}") from None
    if setting.texts_per_shot and not isinstance(setting.train.get("texts"), int):
        raise InputError(f"{at}texts_per_shot needs a number of texts")
