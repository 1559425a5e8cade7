"""What `uml data list` and `uml data show` say: as JSON-ready values, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import unknown
from uml_manifests.benchmarks.known import Benchmark, list_benchmarks
from uml_manifests.benchmarks.layouts.found import capped
from uml_manifests.manifest.files import HEADER, load_manifest
from uml_manifests.manifest.manifest import SPLITS, Manifest
from uml_manifests.resolve import DATA, built_names, manifest_folders


def list_data() -> tuple[list[dict[str, Any]], str]:
    """Known and built data sets: as JSON-ready rows, and as a text table."""
    rows: list[dict[str, Any]] = []
    here = {name: list(manifest_folders(DATA / name)) for name in built_names()}
    for benchmark in list_benchmarks():
        rows.append(
            {
                "name": benchmark.name,
                "title": benchmark.title,
                "classes": benchmark.classes,
                "sizes": list(benchmark.sizes),
                "checked": benchmark.checked,
                "licence": benchmark.licence,
                "built": here.pop(benchmark.name, []),
            }
        )
    for name, built in here.items():
        rows.append(
            {
                "name": name,
                "title": None,
                "classes": None,
                "sizes": None,
                "checked": None,
                "licence": None,
                "built": built,
            }
        )
    lines = [f"{'name':<16}{'classes':>8}{'train/val/test':>22}  in ./data"]
    for row in rows:
        shown = "/".join(_size(n) for n in row["sizes"]) if any(row["sizes"] or ()) else ""
        if shown and not row["checked"]:
            shown += " (?)"
        there = ", ".join(row["built"]) or "-"
        lines.append(f"{row['name']:<16}{row['classes'] or '':>8}{shown:>22}  {there}")
    return rows, "\n".join(lines)


def show_data(name: str) -> tuple[dict[str, Any], str]:
    """One data set: what is known of it, and every manifest of it under ./data (or in the folder named).

    Raises:
        InputError: no known name, and no manifest there.
    """
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    path = Path(name)
    if (path / HEADER).is_file() or path.suffix == ".toml":
        folders = {str(path): path}
    else:
        folders = manifest_folders(path) or manifest_folders(DATA / name)
    if name not in known and not folders:
        raise unknown("data set", name, {*known, *built_names()})
    value: dict[str, Any] = {"name": name}
    lines: list[str] = []
    if name in known:
        value |= {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(known[name]).items()}
        lines = _lines(known[name])
    else:
        lines = [f"name:      {name}"]
    value["manifests"] = [_described(folder) for folder in folders.values()]
    for row in value["manifests"]:
        lines += _manifest_lines(row)
    return value, "\n".join(lines)


def text_counts(manifest: Manifest) -> dict[str, Any] | None:
    """Texts and words per class of a manifest of texts, `{class: [texts, words]}` and the sums; else None.

    Classes whose names occur twice are counted together here.
    """
    if manifest.modality != "text":
        return None
    words = np.array([len(text.split()) for text in manifest.sources], dtype=np.int64)
    counts: dict[str, list[int]] = {name: [0, 0] for name in manifest.classes}
    for label, many in zip(manifest.labels.tolist(), words.tolist(), strict=True):
        if label >= 0:
            counts[manifest.classes[label]][0] += 1
            counts[manifest.classes[label]][1] += many
    return {"texts": len(manifest), "words": int(words.sum()), "per_class": counts}


def count_line(counts: Mapping[str, Any]) -> str:
    """Texts and words in one line: least, median and most per class."""
    per_class = list(counts["per_class"].values())
    if not per_class:
        return f"{counts['texts']} texts, {counts['words']} words, no classes"
    texts = _spread([texts for texts, _ in per_class])
    words = _spread([words for _, words in per_class])
    return f"{counts['texts']} texts, {counts['words']} words; per class {texts} texts, {words} words"


def _lines(benchmark: Benchmark) -> list[str]:
    sizes = ", ".join(
        f"{_size(count)} {part}" for part, count in zip(SPLITS, benchmark.sizes, strict=True) if count
    )
    lines = [
        f"name:      {benchmark.name} ({benchmark.title})",
        f"modality:  {', '.join(benchmark.modalities)}",
        f"classes:   {benchmark.classes}",
        f"sizes:     {sizes or 'not known'}{'' if benchmark.checked else ' (not verified)'}",
        f"licence:   {benchmark.licence}",
        f"homepage:  {benchmark.homepage}",
        *(f"get:       {step}" for step in benchmark.get),
        f"--root:    {benchmark.layout}",
    ]
    for key, option in benchmark.options.items():
        values = (
            "|".join(option.values)
            if len(option.values) <= 6
            else f"{option.values[0]} … {option.values[-1]}"
        )
        lines.append(f"--option:  {key}={values} (default {option.default}): {option.help}")
    if benchmark.unchecked:
        lines.append(f"verify:    {benchmark.unchecked}, which could not be checked")
    lines += [f"prompt:    {prompt}" for prompt in benchmark.prompts]
    return lines


def _manifest_lines(row: Mapping[str, Any]) -> list[str]:
    splits = ", ".join(f"{count} {part}" for part, count in row["splits"].items())
    lines = [
        f"{row['path']}: {row['modality']}, {row['samples']} samples, {row['classes']} classes ({splits})"
    ]
    if row["options"]:
        lines.append(f"  built with {', '.join(row['options'])}")
    if row["text"]:
        lines.append(f"  {count_line(row['text'])}")
    if row["missing_classes"]:
        lines.append(f"  classes without samples: {capped(row['missing_classes'])}")
    return lines


def _described(folder: Path) -> dict[str, Any]:
    manifest = load_manifest(folder)
    return {
        "path": str(folder),
        "name": manifest.name,
        "modality": manifest.modality,
        "set": manifest.set,
        "samples": len(manifest),
        "classes": len(manifest.classes),
        "splits": manifest.split_counts,
        "missing_classes": list(manifest.missing_classes),
        "text": text_counts(manifest),
        "licence": manifest.licence,
        "options": list(manifest.options),
        "root": str(manifest.root),
        "digest": manifest.digest,
    }


def _size(count: int) -> str:
    return str(count) if count else "-"


def _spread(counts: list[int]) -> str:
    low, middle, high = min(counts), int(np.median(counts)), max(counts)
    return str(low) if low == high else f"{low} to {high} (median {middle})"
