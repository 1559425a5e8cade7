"""What `uml data` does: manifests, texts and draws kept under `./data/NAME/<modality>[.<set>]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uml_cache import Account, Choice, InputError
from uml_manifests.benchmarks.building import build_benchmark, build_csd
from uml_manifests.benchmarks.known import get_benchmark, list_benchmarks
from uml_manifests.benchmarks.layouts.csd import csd_files
from uml_manifests.benchmarks.layouts.found import missing_files
from uml_manifests.manifest.draws import FewShotDraw, few_shot, write_index
from uml_manifests.manifest.files import HEADER, load_manifest, write_manifest
from uml_manifests.manifest.manifest import NO_SPLIT, Manifest
from uml_manifests.manifest.splitting import stratified_split
from uml_manifests.resolve import DATA, manifest_folders, resolve_data
from uml_manifests.sources.builders import from_csv
from uml_manifests.sources.folders import from_folder
from uml_manifests.sources.records import is_saved_dataset
from uml_manifests.sources.tars import tar_files
from uml_manifests.texts.leftovers import write_leftovers, write_proposals
from uml_manifests.texts.mentions import Mentions, NoMention, assign_mentions
from uml_manifests.texts.prompts import (
    description_manifest,
    match_descriptions,
    read_descriptions,
    template_manifest,
)
from uml_manifests.texts.proposals import Proposal, propose


@dataclass(frozen=True)
class BuiltData:
    """The written manifests with their folders, and how the files differ from what they (or the benchmark)
    promise; `remarks` say what was done. `folder` holds what was written beside them."""

    written: list[tuple[Manifest, Path]]
    folder: Path
    missing_files: int
    differences: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def account(self) -> Account:
        """What became of all that was found, of all manifests together."""
        accounts = [manifest.account() for manifest, _ in self.written]
        lacking = {what: sum(one.lacking[what] for one in accounts) for what in accounts[0].lacking}
        left_out = tuple(item for one in accounts for item in one.left_out)
        return Account(used=sum(one.used for one in accounts), left_out=left_out, lacking=lacking)


@dataclass(frozen=True)
class BuiltTexts:
    """A written text manifest, the description keys that fitted no class, and what loose texts mentioned."""

    manifest: Manifest
    folder: Path
    unused_keys: tuple[str, ...]
    mentions: Mentions | None = None
    remarks: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()

    @property
    def account(self) -> Account:
        """What became of the texts; a description that fits no class counts as one."""
        account = self.manifest.account()
        unused = tuple((key, "fits no class") for key in self.unused_keys)
        return replace(account, left_out=(*account.left_out, *unused), lacking={})


@dataclass(frozen=True)
class BuiltDraw:
    """A written few-shot draw; `made_splits` where the manifest had none of its own."""

    manifest: Manifest
    draw: FewShotDraw
    path: Path
    made_splits: bool


def data_folder(manifest: Manifest) -> Path:
    """`data/NAME/<modality>[.<set>]`, with `_` for what a folder name should not hold."""
    return DATA / re.sub(r"[/\\:]", "_", manifest.name) / re.sub(r"[/\\:]", "_", manifest.store_name)


def build_data(
    name: str,
    root: str | Path,
    *,
    out: str | Path | None = None,
    modality: str | None = None,
    options: Mapping[str, str] | None = None,
    partial: bool = False,
    choice: Choice | None = None,
) -> BuiltData:
    """Write the manifests of a benchmark, of `.csd` files, a folder of class folders or a CSV file.

    Args:
        out: The manifest's folder; of a data set with several manifests the folder that holds theirs.
        options: Choices that the data set has.
        partial: Take a benchmark's files though they differ from the published ones.
        choice: The columns of a CSV file, where its names leave them open.

    Raises:
        InputError: see `build_benchmark`, `build_csd`, `from_folder` and `from_csv`; or not one of the files
            is there.
    """
    root = Path(root)
    known = name in {benchmark.name for benchmark in list_benchmarks()}
    if known or csd_files(root):
        if known:
            built = build_benchmark(get_benchmark(name), root, options=options, partial=partial)
        else:
            built = build_csd(name, root, options or {})
        one = len(built.manifests) == 1 and not built.found.arrays
        home = data_folder(built.manifest).parent if out is None else Path(out)
        written = built.write(home, flat=one and out is not None)
        return BuiltData(written, home, built.missing_files, built.differences, built.remarks)
    if options:
        raise InputError(
            f"{name} is no known data set, so it has no options; `uml data list` shows those known"
        )
    if root.suffix.lower() == ".csv":
        manifest = from_csv(root, name=name, modality=modality, choice=choice)
        absent = [] if manifest.modality == "text" else missing_files(manifest)
        missing = len(absent)
        if missing == len(manifest):
            raise InputError(
                f"{root}: none of its {missing} files is in {manifest.root} (first: {absent[0]})"
            )
        differences = (f"{missing} files are missing, for example {absent[0]}",) if absent else ()
    else:
        # Any other table or folder; a folder of manifests is none, for what would be built of it?
        table = root.is_file() or is_saved_dataset(root) or bool(tar_files(root))
        if table or (choice or Choice()) != Choice():
            manifest = resolve_data(root, name=name, modality=modality, choice=choice)
        else:
            manifest = from_folder(root, name=name, modality=modality)
        missing = 0
        empty = manifest.missing_classes
        differences = (f"class folders without files: {', '.join(empty)}",) if empty else ()
    folder = write_manifest(manifest, data_folder(manifest) if out is None else Path(out))
    return BuiltData([(manifest, folder)], folder, missing, differences, manifest.remarks)


def build_texts(
    name: str,
    templates: str | None,
    descriptions: str | Path | None,
    *,
    texts: str | Path | None = None,
    synonyms: str | Path | None = None,
    style: str = "sentences",
    set: str | None = None,
    out: str | Path | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> BuiltTexts:
    """Write the texts about a data set's classes: from a template set, a description file, or loose texts.

    Raises:
        InputError: none or several of templates, descriptions and texts, or what their functions raise.
    """
    if sum(given is not None for given in (templates, descriptions, texts)) != 1:
        raise InputError(
            "give either --templates vanilla|classname|handwritten, --descriptions FILE or --texts FILE"
        )
    if synonyms is not None and texts is None:
        raise InputError("--synonyms are names to look for in loose texts; give these with --texts FILE")
    source = _named(name, modality)
    unused: list[str] = []
    remarks: tuple[str, ...] = ()
    mentions = None
    proposals: list[Proposal] = []
    if texts is not None:
        loose = resolve_data(texts, name=source.name, modality="text", choice=choice)
        remarks = loose.remarks
        others = None if synonyms is None else read_descriptions(Path(synonyms))
        try:
            mentions = assign_mentions(loose, source, others, set=set or "loose")
        except NoMention as error:
            raise _with_proposals(error, loose, source, others, set or "loose", out) from None
        proposals = propose([one.text for one in mentions.none], source.classes, others)
        manifest = replace(mentions.manifest, source=f"texts {Path(texts).name}")
    elif templates is not None:
        manifest = template_manifest(source, templates, set=set)
    else:
        found = read_descriptions(Path(str(descriptions)))
        manifest = description_manifest(source, found, set=set or "descriptions", style=style)
        manifest = replace(manifest, source=f"descriptions {Path(str(descriptions)).name}")
        unused = match_descriptions(source.classes, list(found))[1]
    folder = write_manifest(manifest, data_folder(manifest) if out is None else Path(out))
    if mentions is not None:
        write_leftovers(folder, mentions, proposals)
    return BuiltTexts(manifest, folder, tuple(unused), mentions, remarks, tuple(proposals))


def _with_proposals(
    error: InputError,
    loose: Manifest,
    source: Manifest,
    others: Mapping[str, Sequence[str]] | None,
    set: str,
    out: str | Path | None,
) -> InputError:
    """The error, with the names that would help, which are written where the texts would have been."""
    proposals = propose(loose.sources, source.classes, others)
    if not proposals:
        return error
    place = replace(source, modality="text", set=set, sources=source.ids)
    path = write_proposals(data_folder(place) if out is None else Path(out), proposals)
    best = max(proposals, key=lambda proposal: proposal.adds)
    return InputError(
        f"{error}; other names of the classes ({best.rule}) would label {best.adds}: read {path}, then "
        f"add --synonyms {path}"
    )


def build_draw(
    name: str, shots: int, seed: int, *, out: str | Path | None = None, modality: str | None = None
) -> BuiltDraw:
    """Draw and write a few-shot index; data without splits gets a stratified 60/20/20 with the same seed.

    Raises:
        InputError: see `few_shot`.
    """
    manifest = _named(name, modality)
    made_splits = bool(np.all(manifest.splits == NO_SPLIT))
    if made_splits:
        drawn = stratified_split(manifest.labels, manifest.groups, seed, samples=manifest.sample_keys)
        manifest = replace(manifest, splits=drawn)
    draw = few_shot(manifest.labels, manifest.splits, shots=shots, seed=seed, classes=manifest.classes)
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}.get(manifest.name)
    prefix = f"./data/{manifest.name}" + (f"/{known.images}" if known and known.images else "")
    own = Path(name) if (Path(name) / HEADER).is_file() else data_folder(manifest)
    path = own / "draws" / f"shot_{shots}-seed_{seed}.json" if out is None else Path(out)
    return BuiltDraw(manifest, draw, write_index(path, manifest, draw, prefix=prefix), made_splits)


def _named(name: str, modality: str | None) -> Manifest:
    """A data set by name or folder; of several modalities the first (pictures, then texts, then sounds)."""
    inside = manifest_folders(Path(name)) or manifest_folders(DATA / name)
    if modality is None and inside and not (Path(name) / HEADER).is_file():
        return load_manifest(next(iter(inside.values())))
    return resolve_data(name, modality=modality or ("image" if name == "shapes" else None))
