"""One modality of a problem: the usable rows of a store, and their classes.

Shapes: n usable rows, D features, C classes of the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from uml_cache import REMOVED, REPLACED, FeatureSet, InputError, StoreInfo, Tally, open_features
from uml_manifests import NO_SPLIT, SPLITS
from uml_train.data.rows import Stored

TRAIN, VAL, TEST = (SPLITS.index(name) for name in ("train", "val", "test"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """One modality of the problem.

    `rows` (n,) int64 are the store's usable rows in store order, `labels` (n,) int64 their target classes.
    `tally` says of every row of the store whether it is used, and why not. `space` stands in place of the
    joint space that the encoder names.
    """

    label: str
    features: FeatureSet
    rows: np.ndarray
    labels: np.ndarray
    tally: Tally
    space: str | None = None

    @property
    def encoder(self) -> str:
        """Name of the encoder, with the store's variant."""
        variant = self.features.variant
        return f"{self.features.encoder_name}@{variant}" if variant else self.features.encoder_name

    @property
    def joint_space(self) -> str | None:
        """The space that the encoder shares with others, such as CLIP's towers; None for most."""
        space = self.space or self.features.encoder.get("joint_space")
        return None if space is None else str(space)

    @property
    def named_space(self) -> str | None:
        """The joint space by the name of its model, such as `open_clip:RN50-quickgelu/openai`; encoders that
        were trained into it by others (AudioCLIP's) know no other name."""
        if self.joint_space is None:
            return None
        library, model = (self.features.encoder.get(key) for key in ("library", "model"))
        return f"{library}:{model}"

    @property
    def dim(self) -> int:
        """D, the width of the pooled features, or of the tokens of a store that has no others."""
        return int(self.features.dim)

    @property
    def token_dim(self) -> int | None:
        """The width of the tokens; None for a store without."""
        return None if self.features.info.token_dim is None else self.features.tokens.dim

    @property
    def groups(self) -> Any:
        """(n,) the group (speaker, patient) of each row; None where there are no groups."""
        groups = self.features.groups
        return None if groups is None else np.asarray(groups)[self.rows]

    @property
    def samples(self) -> np.ndarray:
        """(n,) uint64, equal where rows are views of one sample."""
        return self.features.samples[self.rows]

    def without(self, positions: np.ndarray, reason: str) -> Source:
        """The same without some of the usable rows, (n,) bool, which are counted under `reason`."""
        self.tally.leave_out(self.rows[positions], reason)
        return replace(self, rows=self.rows[~positions], labels=self.labels[~positions])

    def values(self, positions: np.ndarray) -> torch.Tensor:
        """Raw pooled features (m, D) float32 of usable rows; `positions` (m,) int64 are places in `rows`."""
        return self.stored(positions).held().values

    def stored(self, positions: np.ndarray, *, tokens: bool = False) -> Stored:
        """Some usable rows, left where they are; `positions` (m,) int64 are places in `rows`.

        With `tokens` they are the tokens; a store without gives its pooled features.
        """
        part = "tokens" if tokens and self.token_dim is not None else "pooled"
        return Stored(features=self.features, rows=self.rows[positions], part=part)


def open_store(store: StoreInfo) -> FeatureSet:
    """Open a store for training. Raises `InputError` for one that is unsealed or has no pooled features."""
    features = open_features(store.path)
    if features.info.dim is None:
        raise InputError(f"{store.path} has no pooled features; extract it again with --pool")
    return features


def usable(label: str, features: FeatureSet, to_target: np.ndarray, *, train_only: bool = False) -> Source:
    """The readable rows with a class of the target; `train_only` leaves out those of other splits.

    Args:
        to_target: (K,) int64, the target class of each of the store's K classes, or −1.

    Raises:
        InputError: no such row.
    """
    labels = np.full(len(features.label), -1, dtype=np.int64)
    labelled = features.label >= 0
    labels[labelled] = to_target[features.label[labelled]]
    tally = Tally(len(labels))
    tally.leave_out(features.status == REPLACED, "replaced by a newer version")
    tally.leave_out(features.status == REMOVED, "removed from the data")
    tally.leave_out(~features.valid, "unreadable")
    tally.leave_out(~labelled, "no label")
    tally.leave_out(labels < 0, "class that the target does not have")
    if train_only and (features.split != NO_SPLIT).any():
        tally.leave_out(features.split == NO_SPLIT, "in no split")
        tally.leave_out(features.split != TRAIN, "not in its training part")
    rows = np.flatnonzero(tally.kept)
    if len(rows) == 0:
        counts = (
            f"{int(features.valid.sum())} readable, {int((labels >= 0).sum())} with a class of the target"
        )
        where = (
            ", none of these in its training part"
            if train_only and ((labels >= 0) & features.valid).any()
            else ""
        )
        raise InputError(f"{features.path} has no row to learn from: of {len(labels)} rows {counts}{where}")
    return Source(label=label, features=features, rows=rows, labels=labels[rows], tally=tally)


def in_shared_spaces(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources by label; where one names a space by its model, those of the model are said to be in it."""
    named = {source.joint_space for source in sources.values()}
    return {
        label: replace(source, space=source.named_space) if source.named_space in named - {None} else source
        for label, source in sources.items()
    }
