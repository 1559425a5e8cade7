"""The benchmarks the package knows: one TOML file each in `data_sets/`. `building` makes their manifests."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

from uml_cache import InputError, unknown


@dataclass(frozen=True, kw_only=True)
class Option:
    """A choice in building a data set. `values` are the possible ones; none: any value."""

    default: str
    help: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public data set: its size, terms, where to get it and how its folder is expected to look.

    Args:
        builder: Which layout its folder has (a name in `building`).
        classes: Number of classes.
        sizes: Samples in train, val and test, before any are left out.
        checked: Whether `sizes` are certain: if not, other sizes are said and no error.
        homepage: Where the files come from.
        get: What to download and unpack, step by step.
        layout: What the folder given as `--root` holds.
        images: Folder below it with the pictures, that a split file's paths start from.
        split_file: The CoOp split file in it.
        files: Names that the data file goes by; the first one that is there is read.
        class_names: Names of the classes where the files have only numbers.
        expected_classes: How many of the classes have samples, where that is not all.
        options: Choices in building it.
        unchecked: What about this entry could not be verified.
        prompts: Sentences with `{}` for the `handwritten` texts.
    """

    name: str
    title: str
    builder: str
    modalities: tuple[str, ...]
    classes: int
    sizes: tuple[int, int, int]
    licence: str
    homepage: str
    layout: str
    checked: bool = True
    get: tuple[str, ...] = ()
    images: str | None = None
    split_file: str | None = None
    files: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    expected_classes: int | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    unchecked: str | None = None
    prompts: tuple[str, ...] = ()

    def choose(self, given: Mapping[str, str]) -> dict[str, str]:
        """The value of every option, those `given` and the defaults.

        Raises:
            InputError: an option that this data set does not have, or a value that it does not take.
        """
        return choose(self.name, self.options, given)


def choose(name: str, options: Mapping[str, Option], given: Mapping[str, str]) -> dict[str, str]:
    """The value of every option of a data set; see `Benchmark.choose`.

    Raises:
        InputError: an unknown option or value.
    """
    for key, value in given.items():
        if not options:
            raise InputError(f"data set {name!r} has no options, got {key}={value}")
        if key not in options:
            raise unknown(f"option of data set {name!r}:", key, options)
        if options[key].values and value not in options[key].values:
            raise unknown(f"value of option {key}:", value, options[key].values)
    return {key: given.get(key, option.default) for key, option in options.items()}


@cache
def list_benchmarks() -> tuple[Benchmark, ...]:
    """All known benchmarks, sorted by name."""
    folder = files("uml_manifests.benchmarks") / "data_sets"
    entries = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted((_read(entry) for entry in entries), key=lambda benchmark: benchmark.name))


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name; an unknown name is answered with the closest ones.

    Raises:
        InputError: there is no benchmark of this name.
    """
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def _read(entry: Any) -> Benchmark:
    values = tomllib.loads(entry.read_text(encoding="utf-8"))
    values["options"] = {name: _option(option) for name, option in values.get("options", {}).items()}
    for one in fields(Benchmark):
        if isinstance(values.get(one.name), list):
            values[one.name] = tuple(values[one.name])
    return Benchmark(**values)


def _option(values: dict[str, Any]) -> Option:
    return Option(**{**values, "values": tuple(values.get("values", ()))})
