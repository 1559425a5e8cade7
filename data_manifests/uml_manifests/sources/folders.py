"""Manifests of folders of class folders: which are splits, which are classes, what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uml_cache import InputError, clean_name, near_equal_remark, split_of_folder
from uml_manifests.manifest.manifest import NO_SPLIT, SPLITS, Manifest
from uml_manifests.sources.builders import choose_modality, describe_files, modality_of, why_not

_NOT_DATA = ("@eadir", "__macosx", "#recycle", "@recycle", "lost+found")  # folders that systems make


@dataclass
class Walked:
    """The visible files below a folder (paths with `/`), and what was passed over: name and reason."""

    files: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def from_folder(
    folder: str | Path, *, name: str | None = None, set: str | None = None, modality: str | None = None
) -> Manifest:
    """A manifest of `FOLDER/CLASS/…/file`, or of `FOLDER/SPLIT/CLASS/…/file`.

    A top folder is a split if its name is one (`train`, `Val`, `test_set` …) and it holds folders and no
    files, and if there are two splits or nothing beside it. Class names are sorted, in Unicode's NFC form;
    within a class files are sorted by path. The id of a sample is its path. A class folder without media
    stays a class (`Manifest.missing_classes` names it). Linked folders are followed. What is not taken is
    counted by reason (`Manifest.left_out`); only hidden files that are no media are not.

    Raises:
        InputError: no such folder, nothing in it, no class folders or no media files in them (it says what
            was found), folders that may be splits or classes, or images and sounds together while `modality`
            does not choose.
    """
    folder = Path(folder)
    given = _Folder(folder)
    return Manifest(name=name or folder.resolve().name, set=set, root=folder, **read_tree(given, modality))


class Tree(Protocol):
    """A folder as it is read: one of this machine, or the objects below a URL."""

    def inside(self, where: str) -> tuple[list[str], list[str]]:
        """The visible folders and files directly in the folder `where` ("" is the whole), sorted."""
        ...

    def walk(self, where: str) -> Walked:
        """All files below the folder `where`."""
        ...


@dataclass(frozen=True)
class _Folder:
    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def inside(self, where: str) -> tuple[list[str], list[str]]:
        return _inside(self.root / where)

    def walk(self, where: str) -> Walked:
        return _walk(self.root, where)


def read_tree(tree: Tree, modality: str | None) -> dict[str, Any]:
    """The fields of a manifest that class folders decide: classes, samples, what was left out.

    Raises:
        InputError: as `from_folder`.
    """
    remarks: list[str] = []
    left_out: list[tuple[str, str]] = []
    splits_of = _layout(tree, remarks, left_out)
    walked = {where: tree.walk(where) for where in splits_of}
    every = [path for found in walked.values() for path in found.files]
    modality = modality or choose_modality(tree, every)
    classes = sorted({clean_name(where.rpartition("/")[2]) for where in splits_of})
    index = {name: position for position, name in enumerate(classes)}
    sources: list[str] = []
    labels: list[int] = []
    splits: list[int] = []
    for where in sorted(splits_of, key=lambda where: (splits_of[where], where)):
        here = sorted(path for path in walked[where].files if modality_of(path) == modality)
        sources += here
        labels += [index[clean_name(where.rpartition("/")[2])]] * len(here)
        splits += [splits_of[where]] * len(here)
        left_out += walked[where].left_out
        left_out += [(path, why_not(path)) for path in walked[where].files if modality_of(path) != modality]
    if not sources:
        found = describe_files(every)
        raise InputError(f"{tree}: no {modality} files in its {len(classes)} class folders; found {found}")
    if near := near_equal_remark(classes):
        remarks.append(near)
    return {
        "modality": modality,
        "classes": tuple(classes),
        "ids": sources,
        "sources": sources,
        "labels": np.array(labels),
        "splits": np.array(splits),
        "remarks": tuple(remarks),
        "left_out": tuple(left_out),
    }


def media_below(folder: Path, modality: str) -> Walked:
    """The visible files of a modality at whatever depth below a folder, by their path there, sorted; and what
    else is there."""
    found = _walk(folder, ".")
    paths = sorted(path.removeprefix("./") for path in found.files)
    left_out = [(path.removeprefix("./"), why) for path, why in found.left_out]
    left_out += [(path, why_not(path)) for path in paths if modality_of(path) != modality]
    return Walked([path for path in paths if modality_of(path) == modality], left_out)


def _layout(tree: Tree, remarks: list[str], left_out: list[tuple[str, str]]) -> dict[str, int]:
    """Class folders, by path below a tree, with the split of each; 255 where folders are classes alone."""
    top, loose = tree.inside("")
    if not top and not loose:
        raise InputError(f"{tree}: the folder is empty; expected one folder a class")
    if not top:
        raise InputError(
            f"{tree}: no class folders; found {describe_files(loose)}. "
            "Put each class into a folder of its own, or list the files in a CSV (id,path,label)"
        )
    inside = {name: tree.inside(name) for name in top}
    named = {name: code for name in top if (code := split_of_folder(name)) is not None}
    parts = {name: code for name, code in named.items() if inside[name][0] and not _media(inside[name][1])}
    known = {sub for name in parts for sub in inside[name][0]}
    # A stray picture does not make a class of a split that holds the other splits' classes.
    parts |= {name: code for name, code in named.items() if known & set(inside[name][0])}
    others = [name for name in top if name not in parts]
    flat = [name for name in others if name in named and _media(inside[name][1])]
    left_out += [(name, "in no class folder") for name in _media(loose)]
    if not parts:
        if len(flat) > 1 and len({named[name] for name in flat}) > 1:
            raise InputError(
                f"{tree}: {' and '.join(flat)} look like splits and hold files, no class folders; put each "
                "class into a folder of its own (SPLIT/CLASS/file), or list the files in a CSV "
                "(id,path,label,split)"
            )
        return dict.fromkeys(top, NO_SPLIT)
    if len(set(parts.values())) < 2 and [name for name in others if name not in flat]:
        part, other = next(iter(parts)), next(name for name in others if name not in flat)
        raise InputError(
            f"{tree}: {part!r} looks like a split and {other!r} like a class; remove what does not "
            f"belong there, give --data {tree}/{part} alone, or list the files in a CSV "
            "(id,path,label,split)"
        )
    shown = ", ".join(f"{name} ({SPLITS[code]})" for name, code in parts.items())
    remarks.append(f"these folders are read as splits, and the folders in them as classes: {shown}")
    for name in others:
        why = "in no class folder" if name in flat else f"in {name}, which is no split"
        left_out += [(path, why) for path in _media(tree.walk(name).files)]
    for name in parts:
        left_out += [(f"{name}/{path}", "in no class folder") for path in _media(inside[name][1])]
    return {f"{name}/{sub}": code for name, code in parts.items() for sub in inside[name][0]}


def _inside(folder: Path) -> tuple[list[str], list[str]]:
    """The visible folders and files directly in a folder, sorted."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    with os.scandir(folder) as entries:
        visible = [(entry.name, _is_folder(entry)) for entry in entries if not skipped(entry.name)]
    return sorted(n for n, is_folder in visible if is_folder), sorted(
        n for n, is_dir in visible if not is_dir
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: no folder, and no file that can be read
        return False


def _media(names: Sequence[str]) -> list[str]:
    return [name for name in names if modality_of(name) is not None]


def skipped(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that systems make."""
    return name.startswith(".") or name.casefold() in _NOT_DATA


def _walk(root: Path, where: str) -> Walked:
    """All files below a folder; links to folders are followed, but never back into a folder above."""
    found = Walked()
    pending: list[tuple[str, tuple[str, ...]]] = [(where, (os.path.realpath(root / where),))]
    while pending:
        here, above = pending.pop()
        with os.scandir(root / here) as entries:
            for entry in entries:
                path = f"{here}/{entry.name}"
                if not _is_folder(entry):
                    if not skipped(entry.name):
                        found.files.append(path)
                    elif modality_of(entry.name):
                        found.left_out.append((path, "hidden file"))
                    continue
                if entry.name.startswith("."):
                    continue
                real = os.path.realpath(root / path) if entry.is_symlink() else f"{above[-1]}/{entry.name}"
                if real in above or any(one.startswith(f"{real}/") for one in above):
                    found.left_out.append((path, "a link back to a folder above"))
                elif skipped(entry.name):
                    inside = _walk(root, path)
                    found.left_out += [(file, f"thumbnail in {entry.name}") for file in _media(inside.files)]
                else:
                    pending.append((path, (*above, real)))
    return found
