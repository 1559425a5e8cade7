"""Loose texts without labels: which class each one mentions.

The rules, all of them:

- Case and the form of accents do not matter (Unicode's NFC); anything but letters and digits separates words
  (so `_`, `-` and apostrophes do). Marks such as accents and vowel signs belong to their letter.
- In scripts that are written without blanks (Han, Hiragana, Thai, Lao, Khmer, Myanmar, Tibetan) every letter
  with its marks counts as a word, so that a name is found wherever its letters stand one after the other.
- A class is mentioned where the words of its name, or of one of its listed synonyms, stand one after the
  other, whole. The last word may also stand in the plural: with `s` or `es` behind it, or `ies` for a
  final `y`, and with a Korean particle behind it that fits its last sound: `사과를` mentions `사과`.
- The longest name wins where names overlap: `egyptian cat` is no mention of `cat`.
- A text that mentions one class (however often) gets its label. A text that mentions several, or a name that
  several classes share, is ambiguous and left out; so is a text that mentions none. All of them are counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import regex

from uml_cache import InputError, folded_name, match_names, unknown
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, Manifest
from uml_manifests.texts.particles import without_particle

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_MARKS = r"\p{M}\u200c\u200d"  # the joiners tie letters together as marks do
_WORDS = regex.compile(
    rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]][{_MARKS}]*|"
    rf"[[\p{{L}}\p{{N}}]--[{_UNSPACED}]](?:[[\p{{L}}\p{{N}}]--[{_UNSPACED}]]|[{_MARKS}])*",
    regex.V1,
)


class NoMention(InputError):
    """Not one text can be given a class."""


@dataclass(frozen=True)
class LooseText:
    """A text that got no class: its id, itself, and the classes that it mentions."""

    id: str
    text: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Mentions:
    """What was found: `manifest` has the texts with a class; the others are counted.

    `labelled` came with their class. `shared` names belong to several classes, so that they tell none. What
    is left out stands in the manifest's account; `several` and `none` hold those texts themselves.
    """

    manifest: Manifest
    texts: int
    labelled: int
    matched: int
    ambiguous: int
    unmatched: int
    shared: tuple[str, ...]
    several: list[LooseText] = field(default_factory=list)
    none: list[LooseText] = field(default_factory=list)


def assign_mentions(
    texts: Manifest,
    classes: Manifest,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    *,
    set: str = "loose",
) -> Mentions:
    """Give every text the class that it mentions; texts that have a label keep it.

    Args:
        texts: A manifest of texts, with or without labels; labels must be names of `classes`.
        classes: The data set whose classes are looked for.
        synonyms: More names by class name; for a class name that occurs twice they serve both.
        set: The text set's name.

    Raises:
        InputError: a synonym or a label of no class, or no text with a class.
    """
    finder = NameFinder(classes.classes, synonyms or {})
    own_class = _own_classes(texts, classes)
    labels: list[int] = []
    kinds: list[str] = []
    several: list[LooseText] = []
    none: list[LooseText] = []
    counts = {"labelled": 0, "matched": 0, "ambiguous": 0, "unmatched": 0}
    for name, text, own in zip(texts.ids, texts.sources, texts.labels.tolist(), strict=True):
        if own != NO_LABEL:
            labels.append(int(own_class[own]))
            counts["labelled"] += 1
            kinds.append("labelled")
            continue
        found = finder.classes_in(text)
        kind = "unmatched" if not found else "matched" if len(found) == 1 else "ambiguous"
        counts[kind] += 1
        kinds.append(kind)
        if len(found) != 1:
            names = tuple(classes.classes[label] for label in found)
            (several if found else none).append(LooseText(name, text, names))
        labels.append(next(iter(found)) if len(found) == 1 else NO_LABEL)
    left_out = [
        (name, "mentions several classes" if kind == "ambiguous" else "mentions no class")
        for name, kind in zip(texts.ids, kinds, strict=True)
        if kind in ("ambiguous", "unmatched")
    ]
    rows = [row for row, label in enumerate(labels) if label != NO_LABEL]
    if not rows:
        raise NoMention(
            f"none of {len(texts)} texts can be given a class of data set {classes.name!r}: "
            f"{counts['ambiguous']} mention several, {counts['unmatched']} none"
        )
    manifest = replace(
        texts,
        name=classes.name,
        set=set,
        classes=classes.classes,
        root=classes.root,
        ids=[texts.ids[row] for row in rows],
        sources=[texts.sources[row] for row in rows],
        labels=np.array([labels[row] for row in rows]),
        splits=np.full(len(rows), NO_SPLIT),
        groups=None if texts.groups is None else [texts.groups[row] for row in rows],
        prompts=classes.prompts,
        options=("labels=by mention",) if counts["matched"] else (),
        left_out=(*texts.left_out, *left_out),
    )
    return Mentions(
        manifest=manifest, texts=len(texts), shared=finder.shared, several=several, none=none, **counts
    )


def _own_classes(texts: Manifest, classes: Manifest) -> np.ndarray:
    """(C,) which class of the data set each class of the texts is; those that no text has do not matter."""
    codes = match_names(texts.classes, classes.classes)
    for label in np.unique(texts.labels[texts.labels >= 0]).tolist():
        name = texts.classes[label]
        if codes[label] >= 0:
            continue
        if folded_name(name) in map(folded_name, classes.classes):
            raise InputError(f"class {name!r} of the texts fits several of data set {classes.name!r}")
        raise unknown(f"class of data set {classes.name!r}:", name, classes.classes)
    return codes


class NameFinder:
    """Looks up the longest run of words that names a class."""

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> None:
        owners: dict[tuple[str, ...], dict[int, None]] = {}
        by_name: dict[str, list[int]] = {}
        for label, name in enumerate(classes):
            by_name.setdefault(_normal(name), []).append(label)
        for name, others in synonyms.items():
            if _normal(name) not in by_name:
                raise unknown("class in the synonyms:", name, classes)
            for other in others:
                if not words_of(other):
                    raise InputError(f"synonym {other!r} of class {name!r} has no words")
                for label in by_name[_normal(name)]:
                    owners.setdefault(words_of(other), {})[label] = None
        for label, name in enumerate(classes):
            if words_of(name):
                owners.setdefault(words_of(name), {})[label] = None
        self.shared = tuple(" ".join(words) for words, labels in owners.items() if len(labels) > 1)
        self._owners: dict[tuple[str, ...], dict[int, None]] = {}
        for words, labels in owners.items():
            for form in (words, *_plurals(words)):
                # What a class is called itself comes before another name's plural.
                if form == words or form not in owners:
                    self._owners.setdefault(form, {}).update(labels)
        self._longest = max(map(len, self._owners), default=0)

    def classes_in(self, text: str) -> dict[int, None]:
        """The classes that a text mentions, in order of appearance."""
        words, found, at = words_of(text), dict[int, None](), 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                labels = self._named(words[at : at + length])
                if labels is not None:
                    found.update(labels)
                    at += length
                    break
            else:
                at += 1
        return found

    def _named(self, words: tuple[str, ...]) -> dict[int, None] | None:
        """The classes of these words, as they stand before any form of the last one without its particle."""
        forms = (words, *((*words[:-1], form) for form in without_particle(words[-1])))
        return next((self._owners[form] for form in forms if form in self._owners), None)


def _plurals(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    *before, last = words
    forms = [f"{last}s", f"{last}es", *([f"{last[:-1]}ies"] if last.endswith("y") else [])]
    return [(*before, form) for form in forms]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, in the form that is compared."""
    # Casefolding may take letters apart again, so that the form is made last.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return tuple(_WORDS.findall(text))


def _normal(name: str) -> str:
    return " ".join(words_of(name))
