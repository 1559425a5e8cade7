"""What is open while the cells of a run are trained: networks, samples, auxiliaries, the problem they make.

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

from uml_cache import QUIET, InputError, Output
from uml_extract import Trainable, load_trainable
from uml_manifests import Manifest, resolve_data
from uml_train.data.given_splits import GivenSplits
from uml_train.data.selection import Role, Selection, select_beside, select_unrelated
from uml_train.finetune.backbones import Backbone
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.manifest_rows import ManifestRows
from uml_train.finetune.samples import Loader, check_readable
from uml_train.finetune.whole_network import moved
from uml_train.problem import Problem, open_problem, read_class_map
from uml_train.run import Run
from uml_train.runs.ranks import Ranks
from uml_train.runs.workers import chosen_device
from uml_train.settings import UNRELATED, TrainSettings
from uml_train.training import resolve, splits_of

_ENCODED_AT_ONCE = 64


@dataclass(eq=False)
class Part:
    """A modality with a network of its own."""

    role: Role
    manifest: Manifest
    backbone: Backbone
    loader: Loader
    rows: ManifestRows


@dataclass(eq=False)
class Session:
    """Everything that is open while cells are trained."""

    settings: TrainSettings
    finetune: FinetuneSettings
    selection: Selection
    unrelated: list[Role]
    problem: Problem
    target: Part
    tuned: Part | None
    ranks: Ranks
    device: str


def reopened(run: Run, settings: TrainSettings, output: Output, stack: ExitStack) -> Session:
    """What a run was trained with. Raises `InputError` where data, features or weights have changed since."""
    tuning = FinetuneSettings.from_json(run.config["finetune"])
    session = open_session(settings, tuning, Ranks(), output, stack, splits_of(run))
    now = {role.label: role.store.fingerprint for role in roles(session)}
    for label, store in run.config["stores"].items():
        if now.get(label) != store["fingerprint"]:
            raise InputError(f"{label} has changed since {run.path} was trained; train again")
    if described(session)["networks"] != run.config["finetune"]["networks"]:
        raise InputError(f"the network's weights have changed since {run.path} was trained; train again")
    return session


def open_session(
    settings: TrainSettings,
    tuning: FinetuneSettings,
    ranks: Ranks,
    output: Output,
    stack: ExitStack,
    splits: GivenSplits | None = None,
) -> Session:
    """Load the networks and open the data. Raises `InputError` where these do not go together.

    Args:
        splits: those that a run was made with, in place of the manifest's.
    """
    device = chosen_device(settings.device)
    encoder = load_trainable(
        tuning.encoder,
        weights=tuning.weights,
        img_size=tuning.img_size,
        patch_size=tuning.patch_size,
        untrained=tuning.start == "random",
        device="cpu",
    )
    manifest = _manifest(tuning.data, tuning.name, encoder)
    backbone = Backbone(encoder, kind=tuning.start, freeze=tuning.freeze, compiled=tuning.compile)
    opened = partial(_part, tuning=tuning, runs=settings.out, ranks=ranks, output=output, stack=stack)
    target = opened(manifest, backbone, variant=tuning.variant)
    tuned = None
    if tuning.tune_aux is not None and tuning.aux_data is not None:
        other = load_trainable(tuning.tune_aux, device="cpu")
        theirs = _manifest(tuning.aux_data, manifest.name, other)
        if theirs.name != manifest.name:
            raise InputError(
                f"--aux-data is of data set {theirs.name!r}, --data of {manifest.name!r}; they meet by name"
            )
        tuned = opened(theirs, Backbone(other, compiled=tuning.compile), real=True, variant="tuned")
        if tuned.role.label == target.role.label:
            raise InputError(f"--aux-data holds {theirs.modality}, as --data does; it is another modality")
    selection = select_beside(
        settings.cache, target.role, settings.auxiliaries, None if tuned is None else tuned.role
    )
    names = [c.removeprefix(UNRELATED) for c in settings.controls if c.startswith(UNRELATED)]
    unrelated = [role for name in names for role in select_unrelated(settings.cache, name, selection)]
    parts = [target] if tuned is None else [target, tuned]
    problem = open_problem(
        selection.dataset,
        selection.target,
        selection.auxiliaries,
        read_class_map(settings.class_map) if settings.class_map else None,
        unrelated=unrelated,
        splits=splits,
        ids=settings.ids,
        opened={part.role.label: part.rows for part in parts},
    )
    for remark in problem.remarks:
        output.say(remark)
    resolved = resolve(settings, selection, problem, output)
    return Session(resolved, tuning, selection, unrelated, problem, target, tuned, ranks, device)


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
    ranks.in_turn(lambda: check_readable(loader, manifest, runs, output))
    lost = check_readable(loader, manifest, runs, QUIET)
    rows = ManifestRows(
        manifest,
        backbone.encoder,
        lost,
        lambda: _features(backbone, loader, lost),
        real=real,
        joint=backbone.kind == "pretrained",
        variant=variant,
    )
    role = Role(manifest.store_name, rows.info)
    return Part(role, manifest, backbone, loader, rows)


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


def roles(session: Session) -> list[Role]:
    return [session.selection.target, *session.selection.auxiliaries, *session.unrelated]


def described(session: Session) -> dict[str, Any]:
    """What the run's configuration says of the fine-tuning."""
    parts = [session.target] if session.tuned is None else [session.target, session.tuned]
    values = session.finetune.to_json()
    for key in ("data", "aux_data", "weights", "encoder", "tune_aux"):
        if values[key] is not None and Path(values[key]).exists():
            values[key] = os.path.abspath(values[key])
    networks = {part.role.label: part.backbone.encoder.spec.to_json() for part in parts}
    return {**values, "networks": networks}
