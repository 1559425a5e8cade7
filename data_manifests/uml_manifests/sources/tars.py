"""Manifests of WebDataset tars: members that share their name up to the first dot are one sample."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uml_cache import GIVEN, Choice, InputError, choose_column, split_of_folder, strict_json, text_of
from uml_manifests.manifest.manifest import SPARSE, SPLITS, Manifest
from uml_manifests.sources.builders import modality_of, reason_for
from uml_manifests.sources.tabular import table_manifest

_SMALL = ("txt", "cls", "json")  # members that are read while indexing


@dataclass
class _Sample:
    """One sample: `media` by modality and extension, `small` text members, the fields of its JSON."""

    key: str
    tar: Path
    media: dict[str, dict[str, tarfile.TarInfo]] = field(default_factory=dict)
    small: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)


def tar_files(path: Path) -> list[Path]:
    """The tar itself, or those directly in a folder, sorted; none if it is something else."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".tar" else []
    return sorted(path.glob("*.tar"))


def from_tars(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of WebDataset shards: members that share their name up to the first dot are one sample.

    Pictures, sounds, `txt`, and the keys of a `json` as the columns of a table, read by the rules of
    `uml_cache.tables` or as `choice` says; the label is `cls`, or in the `json`. Shards whose names begin
    with different splits (`train-000.tar`, `val-000.tar`) are those splits.

    Raises:
        InputError: a broken tar, a compressed one, a member that is there twice, no samples of the modality,
            or several modalities while `modality` does not choose.
    """
    path = Path(path)
    choice = choice or Choice()
    tars = tar_files(path)
    samples: dict[str, _Sample] = {}
    left_out: list[tuple[str, str]] = []
    unread = 0
    for tar in tars:
        unread += _index(tar, samples, left_out)
    kinds = [k for k in ("image", "audio") if any(k in sample.media for sample in samples.values())]
    if any("txt" in s.small or _text_keys(s.fields) for s in samples.values()):
        kinds.append("text")
    media = [kind for kind in kinds if kind != "text"] or kinds
    if modality is None and len(media) > 1:
        raise InputError(f"{path}: holds {' and '.join(kinds)}; say which modality is meant")
    modality = modality or (media[0] if media else "image")
    remarks: list[str] = []
    if unread:
        remarks.append(f"{unread:,} cls or json members cannot be read and are ignored")
    columns = list(dict.fromkeys(key for sample in samples.values() for key in sample.fields))
    pick = _text_picker(columns, choice, str(path), remarks) if modality == "text" else None
    chosen: dict[str, _Sample] = {}
    sources: list[str] = []
    for key, sample in samples.items():
        source = pick(sample) if pick else _member(sample, modality, choice.path, remarks)
        if source is None:
            left_out.append((key, _why_not(sample, modality)))
            continue
        chosen[key] = sample
        sources.append(source)
    if not chosen:
        found = f"holds {' and '.join(kinds)}" if kinds else "has no samples"
        raise InputError(f"{path}: {found}; no {modality} in it")
    table = {name: [sample.fields.get(name) for sample in chosen.values()] for name in columns}
    keys = [sample.key for sample in chosen.values()]
    label = _label(chosen, table, choice, str(path), remarks)
    return table_manifest(
        table if choice.id else {name: cells for name, cells in table.items() if name not in ("id", "ids")},
        choice,
        str(path),
        name=name or path.stem,
        modality=modality,
        set=set,
        root=path if path.is_dir() else path.parent,
        sources=sources,
        made_ids=keys if len({*keys}) == len(keys) else list(chosen),
        made_kind=GIVEN,  # names of members
        remarks=list(dict.fromkeys(remarks)),
        splits=_splits_of_names(tars, chosen, table, choice, str(path), remarks),
        label=label,
        left_out=left_out,
    )


def _index(tar: Path, samples: dict[str, _Sample], left_out: list[tuple[str, str]]) -> int:
    """Take in the members of one tar; returns how many small ones could not be read."""
    unread, at, whole = 0, -1, tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as opened:
            seen: dict[tuple[str, str], tarfile.TarInfo] = {}
            for member in opened:
                if member.offset <= at or member.size < 0:  # a negative size leads back to where it began
                    raise InputError(f"{tar}: is broken: {member.name!r} has a size that cannot be")
                at = member.offset
                folder, _, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                extension = extension.lower()
                if not dot or not stem or member.isdir():
                    continue
                if not member.isreg():
                    left_out.append((f"{tar.name}/{member.name}", "a link inside a tar"))
                    continue
                key = f"{folder}/{stem}" if folder else stem
                before = seen.setdefault((key, extension), member)
                if before is not member and (
                    _content(tar, opened, before, whole) != _content(tar, opened, member, whole)
                ):
                    raise InputError(
                        f"{tar}: member {member.name!r} is in it twice, with different contents; write the "
                        "tar again with one of them"
                    )
                sample = samples.setdefault(f"{tar.name}/{key}", _Sample(key, tar))
                kind = modality_of(f"x.{extension}")
                if kind is not None:
                    sample.media.setdefault(kind, {})[extension] = member
                elif extension in _SMALL:
                    unread += not _take(sample, extension, _content(tar, opened, member, whole), member)
                else:
                    sample.other.append(f".{extension}")
    except InputError:
        raise
    except Exception as error:  # the reader of tars raises nearly anything on broken headers
        hint = "; unpack compressed tars first" if tar.suffix != ".tar" else ""
        raise InputError(f"{tar}: is broken, truncated or compressed ({error}){hint}") from None
    return unread


def _content(tar: Path, opened: tarfile.TarFile, member: tarfile.TarInfo, whole: int) -> bytes:
    """What a member holds; nothing for one that is stored with holes, which is flagged when it is read."""
    if member.issparse():
        return b""
    if member.size > whole - member.offset_data:
        raise InputError(f"{tar}: ends within {member.name!r}")
    stream = opened.extractfile(member)
    return stream.read() if stream else b""


def _take(sample: _Sample, extension: str, content: bytes, member: tarfile.TarInfo) -> bool:
    """Put a small member into its sample; False if it cannot be read (a text is then empty, and flagged)."""
    try:
        text = content.decode("utf-8")
        if extension == "json":
            record = strict_json(text)
            if not isinstance(record, dict):
                raise ValueError("no object")
            sample.fields = record
            return True
    except ValueError as error:
        if "occurs twice" in str(error):
            raise InputError(f"{sample.tar}: member {member.name!r}: {error}") from None
        if extension != "cls":
            sample.small.setdefault("txt", "")
        return extension == "txt"
    sample.small[extension] = text
    return True


def _text_keys(fields: Mapping[str, Any]) -> bool:
    try:
        return choose_column("text", list(fields), None, "", []) is not None
    except InputError:
        return True  # several: the choice is to be made


def _text_picker(
    columns: Sequence[str], choice: Choice, where: str, remarks: list[str]
) -> Callable[[_Sample], str | None]:
    """A function from a sample to its text: the `txt` member, or a key of its JSON."""
    if choice.text == "txt":
        return lambda sample: sample.small.get("txt")
    key = choose_column("text", columns, choice.text, where, remarks)

    def pick(sample: _Sample) -> str | None:
        written, told = sample.small.get("txt"), sample.fields.get(key) if key is not None else None
        told = None if told is None else str(told)
        if choice.text is not None:
            return told
        if written and told and written.strip() != told.strip():
            raise InputError(
                f"{where}: sample {sample.key!r} has a txt member and another text as {key!r} of its json; "
                f"say which is meant with --text-column txt or --text-column {key}"
            )
        return written or told or written

    return pick


def _member(sample: _Sample, modality: str, wanted: str | None, remarks: list[str]) -> str | None:
    """`TAR::OFFSET+SIZE` of the sample's picture or sound; None if it has none."""
    there = sample.media.get(modality, {})
    if wanted is not None:
        there = {extension: member for extension, member in there.items() if extension == wanted.lower()}
    if not there:
        return None
    plain = [extension for extension in there if "." not in extension] or list(there)
    if len(plain) > 1:
        raise InputError(
            f"{sample.tar}: sample {sample.key!r} has several {modality} members ({', '.join(plain)}); say "
            "which is meant with --path-column EXTENSION"
        )
    if len(there) > 1:
        remarks.append(
            f"of several {modality} members of a sample, using .{plain[0]}; --path-column EXTENSION "
            "chooses another"
        )
    member = there[plain[0]]
    size = SPARSE if member.issparse() else member.size
    return f"{sample.tar.name}::{member.offset_data}+{size}"


def _why_not(sample: _Sample, modality: str) -> str:
    for extension in sample.other:
        if (reason := reason_for(f"x{extension}")) and "unreadable" in reason:
            return reason
    return f"without {modality} member"


def _label(
    chosen: Mapping[str, _Sample],
    table: dict[str, list[Any]],
    choice: Choice,
    where: str,
    remarks: list[str],
) -> str | None:
    """The label column; the `cls` members become one, unless the JSON's label says the same."""
    written = [sample.small.get("cls") for sample in chosen.values()]
    if all(one is None for one in written):
        return None
    if choice.label is not None and choice.label != "cls":
        return None
    names = [name for name in table if name != "cls"]
    other = None if choice.label == "cls" else choose_column("label", names, None, where, remarks)
    for key, one, told in zip(chosen, written, table[other] if other else written, strict=True):
        if one is not None and told is not None and text_of(one) != _text(told):
            raise InputError(
                f"{where}: sample {key!r} has the label {one.strip()!r} in its cls member and {told!r} as "
                f"{other!r} of its json; say which is meant with --label-column cls or --label-column {other}"
            )
    beside = table[other] if other else written
    table[other or "cls"] = [
        one if one is not None else told for one, told in zip(written, beside, strict=True)
    ]
    return other or "cls"


def _text(cell: Any) -> str | None:
    try:
        return text_of(cell)
    except ValueError:
        return str(cell)


def _splits_of_names(
    tars: Sequence[Path],
    chosen: Mapping[str, _Sample],
    table: Mapping[str, Any],
    choice: Choice,
    where: str,
    remarks: list[str],
) -> list[int] | None:
    """Splits by the names of the shards, where these name two splits or more and no column tells them."""
    if choice.split is not None or choose_column("split", list(table), None, where, []) is not None:
        return None
    codes = {tar: split_of_folder(tar.stem.rstrip("0123456789").rstrip("-_.")) for tar in tars}
    if None in codes.values() or len({*codes.values()}) < 2:
        return None
    counts = Counter(int(codes[sample.tar] or 0) for sample in chosen.values())
    shown = ", ".join(f"{counts[code]:,} {SPLITS[code]}" for code in sorted(counts))
    remarks.append(f"splits are read from the tars' names: {shown}")
    return [int(codes[sample.tar] or 0) for sample in chosen.values()]
