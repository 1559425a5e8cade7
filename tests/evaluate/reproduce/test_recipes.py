"""Recipes: the paper's items, the strict reader, parts, and the numbers that were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from uml_cache.errors import InputError
from uml_evaluate.reproduce.gaussian.repeat import SWEEPS
from uml_evaluate.reproduce.recipe.items import find_recipes, list_items, list_recipes
from uml_evaluate.reproduce.recipe.parts import Need, parts_of
from uml_evaluate.reproduce.recipe.published import Key, Number, lookup
from uml_evaluate.reproduce.recipe.recipe import Recipe, check_recipe, parse_recipe

TABLES = (1, 2, *range(6, 30))
FIGURES = (3, *range(5, 45))
SMALL = """
title = "toy"
kind = "heads"
datasets = ["toy"]
auxiliaries = ["text"]
encoders = { image = "hog-color", text = "hashed-ngrams" }
[train]
shots = [1, 2]
seeds = [1, 2]
"""


@pytest.mark.parametrize("name", [*(f"table{n}" for n in TABLES), *(f"figure{n}" for n in FIGURES)])
def test_every_table_and_figure_has_a_recipe(name: str) -> None:
    item = list_items()[name]
    assert item.recipes
    assert [recipe.name for recipe in find_recipes(name)] == list(item.recipes)


@pytest.mark.parametrize("recipe", list_recipes().values(), ids=list_recipes())
def test_shipped_recipes_can_run(recipe: Recipe) -> None:
    check_recipe(recipe)
    assert bool(parts_of(recipe)) == (recipe.kind != "gaussian")


def test_sweeps_are_named_in_the_list() -> None:
    assert all(sweep in list_recipes()["gaussian"].note for sweep in SWEEPS)


def test_published_tables_name_items() -> None:
    for recipe in list_recipes().values():
        for table in recipe.published:
            for name in table.items:
                assert recipe.name in list_items()[name].recipes or recipe.name == "backbones", name


def _value(recipe: str, key: Key) -> float:
    table = list_recipes()[recipe].published[0]
    found = lookup(list(table.numbers()), key)
    assert found is not None
    return found.value


def test_numbers_that_the_paper_prints_twice_are_equal() -> None:
    sun = {k: Key(dataset="sun397", shots=k, method="uml-init") for k in (1, 2, 4, 8, 16)}
    for k, key in sun.items():
        assert _value("table17", key) == _value("table24", Key(shots=k, method="uml-init"))
        assert _value("table17", key) == _value("table27", Key(shots=k, method="uml-init", variant="r = 1"))
    for data in ("stanford_cars", "sun397"):
        frozen = Key(dataset=data, variant="frozen", method="uml")
        assert _value("table29", frozen) == _value("table8", Key(dataset=data, method="uml"))
    assert _value("table28", Key(variant="r = 1", method="uml")) == _value(
        "table8", Key(dataset="sun397", method="uml")
    )


PRINTED = {
    ("table6", "uml", None): 83.16,
    ("table8", "uml-init", None): 83.99,
    ("table14", "unimodal", None): 88.46,
    ("table15", "uml", 16): 73.76,
    ("table17", "uml-init", 4): 67.82,
    ("table19", "uml", 8): 79.91,
    ("table20", "uml-init", None): 74.71,
    ("table22", "unimodal", 2): 47.33,
    ("table23", "uml-init", 1): 72.14,
}


@pytest.mark.parametrize(("recipe", "method", "shots"), PRINTED)
def test_rows_have_the_averages_that_the_paper_prints(recipe: str, method: str, shots: int | None) -> None:
    table = list_recipes()[recipe].published[0]
    row = next(values for key, values in table.rows if (key.method, key.shots) == (method, shots))
    assert sum(row) / len(row) == pytest.approx(PRINTED[recipe, method, shots], abs=0.011)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("shot = 3", "'shot'.*did you mean shots"),
        ('kind = "head"', "did you mean heads"),
        ("\n[finetune]\nencoder = 'x'", "belongs to the kind finetune"),
        ("seeds = [1, 1]", "seeds are"),
        ("methods = ['umll']", "did you mean uml"),
        ("\n[grid]\nlrr = [1]", "did you mean lr"),
        ("grid = 'papr'", "did you mean paper"),
        ("\n[[variants]]\nname = 'a'\ntrain.ratio = [3]", "variant a: ratio is 3"),
        ("\n[[variants]]\nname = 'a'\n[[variants]]\nname = 'a'", "name of its own"),
        ("\n[[variants]]\nname = 'a'\nauxiliaries = ['audio']", "no encoder for audio"),
        ("\n[[variants]]\nname = 'a'\ntexts_per_shot = true", "number of texts"),
        ("shots = 'many'", "recipe toy"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused(changed: str, message: str) -> None:
    key = changed.partition(" =")[0].strip()
    kept = "\n".join(line for line in SMALL.splitlines() if not line.startswith(f"{key} ="))
    text = f"{changed}\n{kept}" if key == "kind" else f"{kept}\n{changed}"
    with pytest.raises(InputError, match=message):
        parse_recipe(text, "toy", "toy")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"across": '"dataset"', "columns": '["toi"]', "rows": "[]"}, "did you mean toy"),
        ({"across": '"data"'}, "unknown across"),
        ({"columns": "[1, 2]"}, "2 columns"),
        ({"rows": '[{ values = ["x"] }]'}, "no number"),
        ({"rows": '[{ metod = "uml", values = [1] }]'}, "did you mean method"),
        ({"rows": "[{ shots = 1, values = [1] }]"}, "unknown key in a row"),
        ({"items": '"a"'}, "list of names"),
        ({"source": None}, "lacks source"),
    ],
)
def test_published_tables_are_read_strictly(changed: dict[str, str | None], message: str) -> None:
    usual = {
        "items": '["a"]',
        "source": '"b"',
        "across": '"shots"',
        "columns": "[1]",
        "rows": '[{ method = "uml", values = [1.5] }]',
    }

    def recipe(values: dict[str, str | None]) -> Recipe:
        lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
        return parse_recipe("\n".join([SMALL, "[[published]]", *lines]), "toy", "toy")

    [number] = recipe(dict(usual)).published[0].numbers()
    assert number == Number(key=Key(shots=1, method="uml"), value=1.5)
    with pytest.raises(InputError, match=message):
        recipe({**usual, **changed})


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_recipes(str(tmp_path / "my.toml"))
    (tmp_path / "my.toml").write_bytes(b"title = \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        find_recipes(str(tmp_path / "my.toml"))
    (tmp_path / "my.toml").write_text("title =")
    with pytest.raises(InputError, match="not TOML"):
        find_recipes(str(tmp_path / "my.toml"))
    with pytest.raises(InputError, match="did you mean table17"):
        find_recipes("tabel17")
    assert [recipe.name for recipe in find_recipes("v1-figure10")] == ["neurons"]


def test_variants_of_the_auxiliaries_are_one_run_and_others_are_not() -> None:
    several = parse_recipe(
        SMALL
        + """
[[variants]]
name = "one"
[[variants]]
name = "other encoder"
encoders.text = "minilm_l6"
[[variants]]
name = "half"
train.ratio = [0.5]
""",
        "toy",
        "toy",
    )
    parts = parts_of(several)
    assert [part.variants for part in parts] == [("one", "other encoder"), ("half",)]
    assert [n[0].encoder for n in parts[0].configurations] == ["hashed-ngrams", "minilm_l6"]
    assert parts[0].target == Need(dataset="toy", place="image", encoder="hog-color")


def test_two_variants_that_are_the_same_are_refused() -> None:
    twice = parse_recipe(f"{SMALL}[[variants]]\nname = 'a'\n[[variants]]\nname = 'b'\n", "toy", "toy")
    with pytest.raises(InputError, match="variant b is the same as a"):
        parts_of(twice)


def test_tables_of_a_variant_are_merged_key_by_key() -> None:
    recipe = parse_recipe(
        f"""{SMALL}
[grid]
lr = [0.1]
steps = 7
[[variants]]
name = "small"
grid.steps = 3
train.texts = 2
encoders.image = "pixels"
""",
        "toy",
        "toy",
    )
    small = recipe.variants["small"]
    assert small.grid == {"lr": [0.1], "steps": 3}
    assert (small.train["shots"], small.train["texts"]) == ((1, 2), 2)
    assert small.encoders == {"image": "pixels", "text": "hashed-ngrams"}
    mimic = list_recipes()["multibench"].variants["MIMIC, static vector"]
    assert (mimic.target, mimic.auxiliaries, mimic.setup) == (
        "array.static", ("array.timeseries",), "multibench-large",
    )  # fmt: skip


def test_folds_and_texts_per_shot_make_a_run_each() -> None:
    folded = parse_recipe(f"folds = 2\n{SMALL}", "toy", "toy")
    assert [(p.fold, p.shots) for p in parts_of(folded)] == [(1, (1,)), (2, (1,)), (1, (2,)), (2, (2,))]
    counted = parse_recipe(f"texts_per_shot = true\n{SMALL}texts = 3\n", "toy", "toy")
    assert [(p.texts, p.shots) for p in parts_of(counted)] == [(3, (1,)), (6, (2,))]


def test_unrelated_data_is_needed_from_the_same_encoder() -> None:
    recipe = parse_recipe(f"{SMALL}controls = ['unrelated:other']\n", "toy", "toy")
    [part] = parts_of(recipe)
    assert part.needs[-1] == Need(dataset="other", place="text", encoder="hashed-ngrams")


def test_a_key_asks_for_what_it_names() -> None:
    numbers = [
        Number(key=Key(dataset="a", shots=1, method="uml", control="random"), value=1.0),
        Number(key=Key(dataset="a", shots=1, method="uml"), value=2.0),
    ]
    found = lookup(numbers, Key(dataset="a", method="uml"))
    assert found is not None
    assert found.value == 2.0
    assert lookup(numbers, Key(dataset="b", method="uml")) is None
    assert Number.from_json(numbers[0].to_json()) == numbers[0]
