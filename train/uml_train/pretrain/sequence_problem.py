"""Which sequences a run without labels learns from: the target's, and auxiliaries that need no classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uml_cache import FeatureSet, InputError, Tally, open_features
from uml_manifests import NO_SPLIT
from uml_train.data.given_splits import GivenSplits
from uml_train.data.selection import Role, Selection
from uml_train.data.source import TRAIN, Source
from uml_train.pretrain.network.sequences import Sequences, sequences
from uml_train.problem import AS_RECORDED, Problem, open_problem, without_held_out


@dataclass(frozen=True, eq=False)
class SequenceProblem:
    """A target with labels and splits, and the sequences of every modality by label.

    `sequences` holds what is learnt from: the target's training rows and every auxiliary's. `problem` knows
    labels and parts of the target.
    """

    problem: Problem
    sequences: dict[str, Sequences]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence of any store, so that a learnt position exists for each."""
        return max(int(s.features.tokens.lengths.max()) for s in self.sequences.values())

    def target_rows(self, positions: np.ndarray) -> Sequences:
        """Those of the target's usable rows at `positions` (m,) int64, those without tokens too."""
        source = self.problem.target
        return self.sequences[source.label].only(source.rows[positions])


def open_sequences(
    selection: Selection,
    unrelated: Sequence[Role],
    *,
    standardise: bool,
    splits: GivenSplits | None = None,
    ids: str = AS_RECORDED,
    short_classes: str = "refused",
) -> SequenceProblem:
    """Open the stores of a run.

    An auxiliary's samples need no labels: all its readable rows are used, or those of its training part, but
    for samples that the target is validated or tested on (same id or group). `splits`
    stand for the target's own.

    Raises:
        InputError: a store without tokens, unsealed, or without rows to learn from.
    """
    # Opened here, because it needs no pooled features.
    opened = {selection.target.label: open_features(selection.target.store.path)}
    target = open_problem(selection.dataset, selection.target, [], splits=splits, opened=opened)
    own = target.target
    _with_tokens(own.features)
    held_out = np.concatenate([target.val, target.test])
    others, found = {}, {own.label: sequences(own.label, own.features, own.rows[target.train])}
    for role in [*selection.auxiliaries, *unrelated]:
        features = open_features(role.store.path)
        _with_tokens(features)
        tally = Tally(len(features))
        tally.leave_out(~features.valid, "unreadable")
        if (features.split == TRAIN).any():
            tally.leave_out(features.split == NO_SPLIT, "in no split")
            tally.leave_out(features.split != TRAIN, "not in its training part")
        rows = np.flatnonzero(tally.kept)
        if len(rows) == 0:
            raise InputError(f"{features.path} has no readable row to learn from")
        nothing = np.full(len(rows), -1)
        other = Source(label=role.label, features=features, rows=rows, labels=nothing, tally=tally)
        if features.dataset == own.features.dataset:
            other = without_held_out(other, own, held_out, target.remarks, ids)
        others[role.label] = other
        found[role.label] = sequences(role.label, features, other.rows)
    if standardise:
        found = {label: s.standardised() for label, s in found.items()}
    names = {role.label for role in unrelated}
    problem = Problem(
        short_classes=short_classes,
        dataset=target.dataset,
        classes=target.classes,
        target=own,
        auxiliaries={label: s for label, s in others.items() if label not in names},
        train=target.train,
        val=target.val,
        test=target.test,
        notes={},
        remarks=target.remarks,
        unrelated={label: s for label, s in others.items() if label in names},
        drawn=target.drawn,
    )
    return SequenceProblem(problem, found)


def _with_tokens(features: FeatureSet) -> None:
    if features.info.token_dim is None:
        raise InputError(
            f"{features.path} has no tokens, which the objectives ssl and joint learn from; extract it again "
            "with --tokens"
        )
