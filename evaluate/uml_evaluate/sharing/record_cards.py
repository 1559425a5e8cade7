"""Cards of runs and heads, made from their records: what they are, of what, how good, how to repeat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uml_cache import InputError, WorkError, card_cell, card_code, card_text, encoder_rows
from uml_evaluate.comparing.comparison import Comparison, compare
from uml_evaluate.comparing.shown.headline import ground, headline
from uml_evaluate.comparing.shown.tables import markdown
from uml_train import Run, asked, recorded_store

_TASKS = {"image": "image-classification", "text": "text-classification", "audio": "audio-classification"}
_UNSTATED = "not stated by who pushed it"
_REFIT = "training and validation rows together, after validation chose; the accuracies are from before"
_DATA = ("Licence of the data", "not recorded; ask whoever made the data set")


def run_card(run: Run, licence: str | None, place: str, digest: str) -> str:
    """The card of a run; arguments as of `card_text`.

    Raises:
        InputError: its files are damaged.
    """
    config = run.config
    rows = [
        *_about_run(run),
        ("Finished cells", f"{len(run.cells):,}"),
        ("Run's identity", str(run.digest)),
        ("Licence of the run", licence or _UNSTATED),
        _DATA,
    ]
    return card_text(
        title=f"{config['dataset']}: {config['target']}, a run of uml",
        what="Heads, predictions and their comparison, as `uml train` wrote them.",
        rows=rows,
        hub={"tags": ["uml", "run"], "viewer": False},
        licence=licence,
        place=place,
        digest=digest,
        sections=_sections(run),
        after="uml report ./runs",
    )


def head_card(
    about: Mapping[str, Any],
    classes: Sequence[str],
    run: Run | None,
    name: str,
    licence: str | None,
    place: str,
    digest: str,
) -> str:
    """The card of a head; `about` is what it says of itself, `run` the one it belongs to, if it is at hand.

    Raises:
        InputError: files of the run are damaged.
    """
    encoder = about["features"]["encoder"]
    modality = str(encoder.get("modality") or about.get("target"))  # an imported store's says its name alone
    told = {"Method": "method", "Labelled rows per class": "shots", "Seed": "seed"}
    scores = {"Validation accuracy (%)": "val_acc", "Test accuracy (%)": "test_acc"}
    rows = [
        ("Data set", str(about.get("dataset", "not recorded"))),
        ("Takes", f"{modality}: features of {encoder['name']}"),
        *encoder_rows(encoder),
        ("Classes", _few(classes)),
        *((label, str(about[key])) for label, key in told.items() if key in about),
        ("Unpaired data", ", ".join(about.get("auxiliaries") or ()) or "none"),
        *((label, f"{about[key]:.1f}") for label, key in scores.items() if about.get(key) is not None),
        *((("Solved on", _REFIT),) if about.get("refit") else ()),
        ("Chance (%)", f"{100 / len(classes):.1f}, guessing among the classes"),
        ("Licence of the head", licence or _UNSTATED),
        _DATA,
    ]
    task = _TASKS.get(modality)
    hub = {"library_name": "uml", "tags": ["uml"], **({} if task is None else {"pipeline_tag": task})}
    return card_text(
        title=f"{about.get('dataset', name)}: {about.get('method', 'a head')} on {encoder['name']}",
        what="A classifier of the features of a frozen encoder, one safetensors file. The encoder's weights "
        "are not in it; their digest is, and `uml` checks it.",
        rows=rows,
        hub=hub,
        licence=licence,
        place=place,
        digest=digest,
        sections=[] if run is None else _sections(run),
        after=f"uml predict heads/{name}.safetensors ./files --out predictions.csv",
    )


def _about_run(run: Run) -> list[tuple[str, str]]:
    config = run.config
    rows = [("Data set", str(config["dataset"])), ("Target", str(config["target"]))]
    counts = config.get("rows", {})
    if counts:
        rows.append(("Rows", ", ".join(f"{part} {counts[part]:,}" for part in counts)))
    rows.append(("Classes", _few(config.get("classes") or ())))
    for label, store in config["stores"].items():
        rows += [(f"{label}: {what}", value) for what, value in _encoder(run, label, store)]
        rows.append((f"{label}: fingerprint of the features", str(store.get("fingerprint"))))
    made = config.get("versions", {})
    rows.append(("Made with", ", ".join(f"{name} {made[name]}" for name in made)))
    return rows


def _encoder(run: Run, label: str, store: Mapping[str, Any]) -> list[tuple[str, str]]:
    try:
        return encoder_rows(recorded_store(run, label, None).encoder)
    except (InputError, WorkError, OSError):  # the store has the rest, and it is elsewhere
        return [("Encoder", str(store.get("encoder", "not recorded")))]


def _sections(run: Run) -> list[tuple[str, str]]:
    tables = "\n\n".join(_table(comparison) for comparison in compare(run))
    command = asked(run.config, cache=Path("feats"), out=Path("runs")).command()
    return [("Results", tables), ("Repeat it", f"On the same features:\n\n{card_code(command)}")]


def _table(comparison: Comparison) -> str:
    said = f"{card_cell(headline(comparison))} {card_cell(ground(comparison))}"
    return f"{said}\n\n{markdown(comparison)}"


def _few(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(map(str, names[:most]))
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{len(names):,}: {shown}{more}" if names else "none"
