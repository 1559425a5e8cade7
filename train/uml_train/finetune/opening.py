"""What a network is trained on: the networks of the modalities, and their samples.

Shapes: N rows of a manifest, D features.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from uml_cache import QUIET, InputError, Output, WorkError
from uml_extract import Trainable, load_trainable
from uml_manifests import Manifest, resolve_data
from uml_train.data.selection import Role
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.manifest_rows import ManifestRows
from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.network.whole_network import moved
from uml_train.finetune.samples import Loader, look_at, stamps_of
from uml_train.runs.ranks import Ranks

_ENCODED_AT_ONCE = 64


@dataclass(eq=False)
class Part:
    """A modality with a network of its own."""

    role: Role
    manifest: Manifest
    backbone: Backbone
    loader: Loader
    rows: ManifestRows
    stamps: str | None

    def check(self) -> None:
        """Raises `WorkError` where a file of a sample is not the one that the run was begun with."""
        if stamps_of(self.manifest) != self.stamps:
            raise WorkError(
                f"samples in {self.manifest.root} were changed while a run trained on them. What was "
                "finished before is kept; run the same command again to train on the changed samples"
            )


@dataclass(eq=False)
class Networks:
    """The target's network with its samples, and that of an auxiliary which is trained, too."""

    tuning: FinetuneSettings
    target: Part
    tuned: Part | None

    @property
    def parts(self) -> list[Part]:
        """Both, or the target's alone."""
        return [self.target] if self.tuned is None else [self.target, self.tuned]

    def described(self) -> dict[str, Any]:
        """What a run's configuration says of the fine-tuning."""
        values = self.tuning.to_json()
        for key in ("data", "aux_data", "weights", "encoder", "tune_aux"):
            if values[key] is not None and Path(values[key]).exists():
                values[key] = os.path.abspath(values[key])
        networks = {part.role.label: part.backbone.encoder.spec.to_json() for part in self.parts}
        return {**values, "networks": networks}


def load_networks(
    tuning: FinetuneSettings, runs: Path, ranks: Ranks, output: Output, stack: ExitStack
) -> Networks:
    """Load the networks and find their samples.

    Args:
        runs: folder of runs, where it is remembered which samples can be read.
        stack: closes the processes that read samples.

    Raises:
        InputError: data or weights that are missing, or do not go together.
    """
    encoder = load_trainable(
        tuning.encoder,
        weights=tuning.weights,
        img_size=tuning.img_size,
        patch_size=tuning.patch_size,
        transform=tuning.transform,
        untrained=tuning.start == "random",
        device="cpu",
    )
    manifest = _manifest(tuning.data, tuning.name, encoder)
    backbone = Backbone(encoder, kind=tuning.start, freeze=tuning.freeze, compiled=tuning.compile)
    opened = partial(_part, tuning=tuning, runs=runs, ranks=ranks, output=output, stack=stack)
    target = opened(manifest, backbone, variant=tuning.variant)
    if tuning.tune_aux is None or tuning.aux_data is None:
        return Networks(tuning, target, None)
    other = load_trainable(tuning.tune_aux, device="cpu")
    theirs = _manifest(tuning.aux_data, manifest.name, other)
    if theirs.name != manifest.name:
        raise InputError(
            f"--aux-data is of data set {theirs.name!r}, --data of {manifest.name!r}; they meet by name"
        )
    tuned = opened(theirs, Backbone(other, compiled=tuning.compile), real=True, variant="tuned")
    if tuned.role.label == target.role.label:
        raise InputError(f"--aux-data holds {theirs.modality}, as --data does; it is another modality")
    return Networks(tuning, target, tuned)


def _manifest(data: str, name: str | None, encoder: Trainable) -> Manifest:
    manifest = resolve_data(data, modality=encoder.spec.modality)
    if name is None or manifest.name == name:
        return manifest
    return resolve_data(data, name=name, modality=encoder.spec.modality)


def _part(
    manifest: Manifest,
    backbone: Backbone,
    *,
    tuning: FinetuneSettings,
    runs: Path,
    ranks: Ranks,
    output: Output,
    stack: ExitStack,
    real: bool = False,
    variant: str | None = None,
) -> Part:
    workers: int | Literal["auto"] = "auto" if tuning.workers is None else tuning.workers
    loader = stack.enter_context(
        Loader(manifest, backbone.encoder, views=tuning.views, workers=workers, beside=ranks.world)
    )
    ranks.in_turn(lambda: look_at(loader, manifest, runs, output))
    looked = look_at(loader, manifest, runs, QUIET)
    lost = looked.unreadable
    rows = ManifestRows(
        manifest,
        backbone.encoder,
        lost,
        lambda: _features(backbone, loader, lost),
        content=looked.content,
        real=real,
        joint=backbone.kind == "pretrained",
        variant=variant,
    )
    role = Role(manifest.store_name, rows.info)
    return Part(role, manifest, backbone, loader, rows, looked.stamps)


def _features(backbone: Backbone, loader: Loader, lost: dict[int, str]) -> torch.Tensor:
    """(N, D) what the untrained network makes of a whole manifest; zeros where a sample cannot be read."""
    rows = [row for row in range(len(loader)) if row not in lost]
    values = torch.zeros(len(loader), int(backbone.encoder.spec.width or 0))
    parts = [rows[at : at + _ENCODED_AT_ONCE] for at in range(0, len(rows), _ENCODED_AT_ONCE)]
    device = next(backbone.network.parameters()).device
    backbone.reset(0)
    backbone.network.eval()
    with torch.no_grad():
        for part, inputs in zip(parts, loader.batches(loader.plain(parts)), strict=True):
            values[part] = backbone.encoder.features(moved(inputs, device)).float().cpu()
    return values
