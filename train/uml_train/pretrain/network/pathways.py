"""What each neuron of a trained shared network does on paired samples, in the pathway of each modality.

Shapes: n pairs, W width (neurons).

Pairs are samples of the same id in both stores. They serve the analysis alone: nothing here trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uml_cache import InputError, open_features
from uml_train.pretrain.arms import arm_name
from uml_train.pretrain.network.network_file import SavedNetwork, load_network
from uml_train.pretrain.network.network_training import Where, embed_rows
from uml_train.pretrain.network.sequences import Sequences
from uml_train.pretrain.network.shared_transformer import SharedTransformer
from uml_train.record.identity import recorded_store
from uml_train.run import CellResult, Run

Activations = tuple[np.ndarray, np.ndarray]
"""(n, W) float32 of the target's pathway and of the auxiliary's, row i of both the same sample."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pathways:
    """Activations of one network: the mean over each sequence of the trunk's outputs.

    Args:
        target, auxiliary: labels of the two modalities.
        ids, labels: (n,) of the pairs; a label is a position in the run's classes.
        trained, untrained: of the selected network and of the same network before its first step.
        snapshots: by epoch, of the same network on its way; empty where none were kept.
    """

    target: str
    auxiliary: str
    ids: np.ndarray
    labels: np.ndarray
    trained: Activations
    untrained: Activations
    snapshots: Mapping[int, Activations]


def snapshot_path(run: Path, arm: str, candidate: int, epoch: int) -> Path:
    """Where a run keeps a candidate's network as it was after an epoch."""
    return run / "snapshots" / f"{arm}-c{candidate}-e{epoch}.safetensors"


def pathways(run: Run, result: CellResult, *, cache: Path | None = None, device: str = "cpu") -> Pathways:
    """Run paired samples through the network of a cell of `uml`, its start and its snapshots.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: stores that are gone or have changed, no sample with the same id in both.
    """
    labels = (result.target, result.cell.auxiliaries[0])
    sources = [_source(run, label, cache) for label in labels]
    first, second = _paired(sources[0], sources[1])
    result.checked(result.head_path)
    network = load_network(result.head_path)
    where = Where(device)

    def activations(one: SavedNetwork) -> Activations:
        one.model.to(device).eval()
        found = [
            embed_rows(one.model, one.mapped(source.only(rows)), where)
            for source, rows in zip(sources, (first, second), strict=True)
        ]
        return found[0], found[1]

    model = network.model
    seed = result.cell.seed + (int(result.candidates[result.selected]["repeat"]) << 32)
    begun = SharedTransformer(
        model.config, model.dims, seed, int(network.about["outputs"]), discrete=model.discrete
    )
    features = sources[0].features
    return Pathways(
        target=labels[0],
        auxiliary=labels[1],
        ids=np.asarray(features.id, dtype=object)[first],
        labels=np.asarray(features.label)[first],
        trained=activations(network),
        untrained=activations(SavedNetwork(begun, network.moments, network.about)),
        snapshots={epoch: activations(load_network(path)) for epoch, path in _snapshots(run, result).items()},
    )


def _snapshots(run: Run, result: CellResult) -> dict[int, Path]:
    joint = run.config["objective"] == "joint"
    stem = f"{arm_name(result.cell, joint=joint)}-c{result.selected}-e"
    found = {
        int(path.stem.rpartition("-e")[2]): path
        for path in (run.path / "snapshots").glob("*.safetensors")
        if path.name.startswith(stem)
    }
    return dict(sorted(found.items()))


def _source(run: Run, label: str, cache: Path | None) -> Sequences:
    features = open_features(recorded_store(run, label, cache).path)
    there = features.valid & (features.tokens.lengths > 0)
    return Sequences(label=label, features=features, rows=np.flatnonzero(there))


def _paired(target: Sequences, other: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both stores with the same id, labelled in the target; an id that occurs twice is none."""
    rows, ids = [], []
    for source in (target, other):
        kept = source.rows
        if source is target:
            kept = kept[np.asarray(source.features.label)[kept] >= 0]
        names = np.asarray(source.features.id, dtype=object)[kept].astype(str)
        unique, at, counts = np.unique(names, return_index=True, return_counts=True)
        rows.append(kept[at[counts == 1]])
        ids.append(unique[counts == 1])
    _, first, second = np.intersect1d(ids[0], ids[1], assume_unique=True, return_indices=True)
    if len(first) == 0:
        raise InputError(
            f"no sample of {target.label} has the id of one of {other.label}, so that nothing is paired; "
            "give both stores the samples' ids"
        )
    order = np.argsort(rows[0][first], kind="stable")
    return rows[0][first][order], rows[1][second][order]
