"""More names for classes that loose texts do not mention as they are called: what each rule would add.

- `without numbers`: the name without what data sets put in front, `001.Black footed albatross` or
  `n01440764 tench`.
- `last words`: what a name ends in (`albatross`, `footed albatross`), where no other class ends so or is
  called so.

Nothing is taken by itself: the names are written into a file that `--synonyms` takes, for a person to read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uml_manifests.texts.mentions import NameFinder, words_of

_NUMBER = re.compile(r"\d+|n\d{8}")  # the latter are ids of WordNet


@dataclass(frozen=True)
class Proposal:
    """A rule with the names that it proposes by class, and how many texts without a class would get one."""

    rule: str
    names: Mapping[str, Sequence[str]]
    adds: int


def propose(
    texts: Sequence[str], classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> list[Proposal]:
    """The rules that would give some of the texts a class; `texts` are those that mention none."""
    plain = {name: _without_numbers(words_of(name)) for name in classes}
    shortened = {
        name: [" ".join(words)] for name, words in plain.items() if words and words != words_of(name)
    }
    found = [
        Proposal("without numbers", shortened, _added(texts, classes, synonyms, shortened)),
    ]
    ends = {
        name: [*shortened.get(name, ()), *endings] for name, endings in _last_words(plain).items() if endings
    }
    found.append(Proposal("last words", ends, _added(texts, classes, synonyms, ends)))
    return [proposal for proposal in found if proposal.adds]


def _without_numbers(words: tuple[str, ...]) -> tuple[str, ...]:
    while words and _NUMBER.fullmatch(words[0]):
        words = words[1:]
    return words


def _last_words(plain: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The endings of every name that no other class shares, the longest first."""
    endings = {name: [words[at:] for at in range(1, len(words))] for name, words in plain.items()}
    owners = Counter(end for ends in endings.values() for end in set(ends))
    whole = set(plain.values())
    return {
        name: [" ".join(end) for end in ends if owners[end] == 1 and end not in whole]
        for name, ends in endings.items()
    }


def _added(
    texts: Sequence[str],
    classes: Sequence[str],
    synonyms: Mapping[str, Sequence[str]] | None,
    names: Mapping[str, Sequence[str]],
) -> int:
    if not names:
        return 0
    every = {
        name: [*(synonyms or {}).get(name, ()), *names.get(name, ())] for name in (*(synonyms or {}), *names)
    }
    finder = NameFinder(classes, every)
    return sum(len(finder.classes_in(text)) == 1 for text in texts)
