"""`uml embed`: what a network learnt goes back into the cache, as a store like any other.

Shapes: N samples, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import (
    GIVEN,
    QUIET,
    FeatureSet,
    FeatureStore,
    InputError,
    Output,
    StorePlan,
    Tally,
    Used,
    create_or_resume,
    open_features,
    store_path,
    unknown,
)
from uml_extract import EncoderSpec
from uml_train.pretrain.network.network_file import SavedNetwork, load_network
from uml_train.pretrain.network.network_training import Where, embed_rows
from uml_train.pretrain.network.sequences import Sequences
from uml_train.problem import LeftOut
from uml_train.record.identity import Watch, one_state, recorded_store, store_remarks
from uml_train.run import CellResult, Run
from uml_train.runs.workers import chosen_device

_NO_TOKENS = "has no tokens"


@dataclass(frozen=True)
class Embedded:
    """A finished store: where it is, the network's cell, rows in all and those that were flagged."""

    store: Path
    modality: str
    cell: str
    rows: int
    failed: int
    used: Used

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml embed --json`."""
        return {**vars(self), "store": str(self.store), "used": self.used.to_json()}


def embed(
    run: Run,
    *,
    modalities: Sequence[str] | None = None,
    cell: str | None = None,
    cache: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    left_out: list[LeftOut] | None = None,
    output: Output = QUIET,
) -> list[Embedded]:
    """Write the mean of a network's outputs over every sequence of some modalities as stores.

    Args:
        run: of the objective ssl or joint.
        modalities: labels of the run; None takes all that the network was trained on.
        cell: whose network; None takes the one of `uml` (else of the best method) that validates best.
        cache: where the run's stores are now, if they have moved.
        out: cache folder to write to; None takes the run's own.
        left_out: takes the sequences that have no output.

    Raises:
        InputError: a run without networks, an unknown cell or modality, stores that have changed.
        WorkError: a store is changed meanwhile.
    """
    if run.config.get("objective") not in ("ssl", "joint"):
        raise InputError(
            f"{run.path} trained heads only, so it has no new features; `uml embed` takes runs of "
            "`uml train --objective ssl` or joint"
        )
    for remark in store_remarks(run, cache):
        output.say(remark)
    result = _choose(run, cell)
    output.say(f"{result.cell.key}: validated at {result.val_acc:.1f} %")
    digest = hashlib.sha256(result.checked(result.head_path)).hexdigest()
    network = load_network(result.head_path)
    known = [label for label in network.about["dims"] if label in run.config["stores"]]
    for label in modalities or ():
        if label not in known:
            raise unknown("modality of the network:", label, known)
    where = Where(chosen_device(device))
    network.model.to(where.device)
    done = []
    for label in modalities or known:
        source = recorded_store(run, label, cache)
        with one_state([source]) as watch:
            features = open_features(source.path)
            spec = _spec(run, result, network, features, digest)
            store = _plan(out or run.settings.cache, features, spec, network)
            _fill(store, features, network, label, where, output, watch)
        failed = len(store.failed())
        tally = Tally(len(features))
        tally.leave_out(~features.valid, "unreadable")
        tally.leave_out(features.tokens.lengths == 0, "no tokens")
        if left_out is not None:
            name = f"{features.dataset}/{label}"
            left_out += [(name, str(features.id[row]), why) for row, why in tally.left_out()]
        done.append(Embedded(store.path, label, result.cell.key, len(features), failed, tally.used))
    return done


def _choose(run: Run, key: str | None) -> CellResult:
    cells = {result.cell.key: result for result in run.cells}
    if not cells:
        raise InputError(
            f"{run.path} has no finished cell; run the same `uml train` command again to finish it"
        )
    if key is not None:
        if key not in cells:
            raise unknown("cell", key, cells)
        return cells[key]
    own = [r for r in cells.values() if r.cell.control is None]
    shared = [r for r in own if r.cell.method == "uml"] or own or list(cells.values())
    return max(shared, key=lambda r: r.val_acc)


def _spec(
    run: Run, result: CellResult, network: SavedNetwork, features: FeatureSet, digest: str
) -> dict[str, Any]:
    source = features.encoder_name + (f"@{features.variant}" if features.variant else "")
    spec = EncoderSpec(
        name=f"uml-{digest[:8]}",
        modality=features.modality,
        library="uml",
        model=f"{run.path.name}/{result.cell.key}",
        weights_digest=digest,
        width=network.model.config.width,
        pooling="mean",
        transform={"tokens": source, "fingerprint": features.fingerprint},
        parameters=sum(p.numel() for p in network.model.parameters()),
    )
    return spec.to_json()


def _plan(out: Path, features: FeatureSet, spec: dict[str, Any], network: SavedNetwork) -> FeatureStore:
    from uml_cache import recorded_plan

    recorded = recorded_plan(features.path) if features.info.own else None
    plan = StorePlan(
        dataset=features.dataset,
        modality=features.modality,
        set=features.set,
        encoder=spec,
        manifest_digest=recorded["manifest_digest"] if recorded else str(features.fingerprint),
        classes=features.classes,
        ids=features.id,
        labels=features.label,
        splits=features.split,
        groups=features.groups,
        samples=features.samples,
        id_kind=features.id_kind or GIVEN,
        pooled_dim=network.model.config.width,
        dtype="float32",
        batch_size=1,
        versions={"uml-cache": version("uml-cache"), "torch": version("torch")},
        device="cpu",
    )
    path = store_path(out, features.dataset, features.modality, features.set, str(spec["name"]))
    return create_or_resume(path, plan)


def _fill(
    store: FeatureStore,
    features: FeatureSet,
    network: SavedNetwork,
    label: str,
    where: Where,
    output: Output,
    watch: Watch,
) -> None:
    reasons = {row.row: row.reason for row in features.info.failed()}
    lengths = features.tokens.lengths
    with store.lock(), output.progress(store.tasks, "task", label) as bar:
        for task in store.pending():
            rows = np.array(store.rows_of(task))
            source = network.mapped(Sequences(label=label, features=features, rows=rows))
            failed = ~features.valid[rows] | (lengths[rows] == 0)
            why = {int(row): reasons.get(int(row), _NO_TOKENS) for row in rows[failed]}
            embedded = embed_rows(network.model, source, where)
            watch.check()
            store.write_task(task, embedded, None, failed.astype(np.uint8), why, 0.0)
            bar.update(1)
