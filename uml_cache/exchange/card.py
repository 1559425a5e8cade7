"""The card of a shared store: what it is, in words, made from its record alone."""

from __future__ import annotations

import re
import shlex

from uml_cache.errors import InputError
from uml_cache.escapes import terminal
from uml_cache.store.catalogue import StoreInfo

CARD = "README.md"
_LICENCE = re.compile(r"[\w.+ -]{1,60}")


def store_card(info: StoreInfo, licence: str | None, place: str, digest: str) -> str:
    """The card as Markdown, with the head that the Hugging Face hub reads.

    `licence` is an SPDX name such as `cc-by-4.0`; None: the card says that none was stated.

    Raises:
        InputError: the licence is no name of one.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise InputError(f"{licence!r} is not the name of a licence; expected one such as cc-by-4.0")
    head = [
        "---",
        *([] if licence is None else [f'license: "{licence.lower()}"']),
        "tags: [uml, features]",
        "---",
    ]
    kind = info.modality if info.set is None else f"{info.modality}, set {info.set}"
    rows = [
        ("Data set", info.dataset),
        ("Modality", kind),
        ("Rows", f"{info.rows:,}, of which {len(info.failed()):,} could not be read"),
        ("Classes", f"{len(info.classes):,}"),
        ("Encoder", info.encoder_name),
        ("Encoder's model", str(info.encoder.get("model") or "not recorded")),
        ("sha256 of its weights", str(info.encoder.get("weights_digest") or "not recorded")),
        ("Licence of its weights", str(info.encoder.get("licence") or "not recorded")),
        ("Width", str(info.dim if info.dim is not None else info.token_dim)),
        ("Store's fingerprint", str(info.fingerprint)),
        ("Licence of the features", licence or "not stated by who pushed them"),
    ]
    lines = [
        *head,
        "",
        f"# Features of {_cell(info.dataset)} by {_cell(info.encoder_name)}",
        "",
        "Features of a frozen encoder, stored by `uml extract` as a Zarr v3 group. There is no code here.",
        "",
        "| What | Value |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in rows),
        "",
        "To take it into a cache folder, every file checked:",
        "",
        "```bash",
        f"uml cache pull {_word(place)} --digest {digest} --out ./feats",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that means nothing to Markdown: names come from other people's data."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", terminal(" ".join(text.split())))


def _word(place: str) -> str:
    return shlex.quote(" ".join(place.split()))
