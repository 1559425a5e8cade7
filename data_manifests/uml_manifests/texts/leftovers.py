"""What becomes of loose texts without a class: files that a person reads, beside the manifest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from uml_cache import escapes, make_folder, write_atomic
from uml_manifests.texts.mentions import LooseText, Mentions
from uml_manifests.texts.proposals import Proposal

UNMATCHED, AMBIGUOUS, PROPOSED = "unmatched.csv", "ambiguous.csv", "proposed_synonyms.json"


def write_leftovers(folder: Path, mentions: Mentions, proposals: Sequence[Proposal]) -> None:
    """Write `unmatched.csv` (id, text), `ambiguous.csv` (id, text, classes) and `proposed_synonyms.json`;
    a file that would be empty is not there."""
    for name, texts in ((UNMATCHED, mentions.none), (AMBIGUOUS, mentions.several)):
        if texts:
            write_atomic(folder / name, _table(texts, with_classes=name == AMBIGUOUS))
        else:
            (folder / name).unlink(missing_ok=True)
    if proposals:
        write_proposals(folder, proposals)
    else:
        (folder / PROPOSED).unlink(missing_ok=True)


def write_proposals(folder: Path, proposals: Sequence[Proposal]) -> Path:
    """Write the names of all rules as the file that `--synonyms` takes."""
    names: dict[str, list[str]] = {}
    for proposal in proposals:
        for name, others in proposal.names.items():
            known = names.setdefault(name, [])
            known += [other for other in others if other not in known]
    make_folder(folder)
    path = folder / PROPOSED
    write_atomic(path, json.dumps(names, indent=1, ensure_ascii=False).encode())
    return path


def _table(texts: Sequence[LooseText], *, with_classes: bool) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "text", "classes"] if with_classes else ["id", "text"])
    for one in texts:
        cells = [one.id, one.text, *(["; ".join(one.classes)] if with_classes else [])]
        writer.writerow([escapes.csv_cell(cell) for cell in cells])
    return stream.getvalue().encode(errors="backslashreplace")
