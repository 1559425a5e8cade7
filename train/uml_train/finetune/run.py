"""`finetune`: from settings to a finished run folder; `complete`: more cells for a run that exists.

Shapes: n rows of a draw. The folder is that of any run (`uml_train.run`), with `checkpoints/` while it is at
work and `backbones/<cell>/`, the selected networks as folders that `uml extract --encoder` takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uml_cache.command import QUIET, Output
from uml_cache.errors import InputError
from uml_extract import Trainable, load_trainable
from uml_manifests import Manifest, resolve_data
from uml_train.auto import choose
from uml_train.bank import Fitted
from uml_train.cells import Prepared, Trained, auxiliary_positions, draw_rows, prepare
from uml_train.finetune.backbones import Backbone, State
from uml_train.finetune.checkpoints import Checkpoint
from uml_train.finetune.data import Loader, ManifestRows, check_readable, worker_count
from uml_train.finetune.settings import FinetuneSettings
from uml_train.finetune.steps import Stream, Task, Tuner, moved
from uml_train.folder import begin, extend_splits, run_lock
from uml_train.grid import Grid, load_grid
from uml_train.problem import Problem, Source, open_problem, read_class_map
from uml_train.ranks import Ranks
from uml_train.run import Cell, Run, missing_cells
from uml_train.selection import Role, Selection, select_beside, select_unrelated
from uml_train.settings import AUTO, UNRELATED, Shots, TrainSettings
from uml_train.table import cells_of, named_cells
from uml_train.training import remark_classes, resolve
from uml_train.workers import chosen_device, keep_cell, run_grid

_FAMILY = "finetune-"
_ENCODED_AT_ONCE = 64


@dataclass(eq=False)
class _Part:
    """A modality with a network of its own."""

    role: Role
    manifest: Manifest
    backbone: Backbone
    loader: Loader
    rows: ManifestRows


@dataclass(eq=False)
class _Session:
    """Everything that is open while cells are trained."""

    settings: TrainSettings
    finetune: FinetuneSettings
    selection: Selection
    unrelated: list[Role]
    problem: Problem
    target: _Part
    tuned: _Part | None
    ranks: Ranks
    device: str


def finetune(settings: TrainSettings, tuning: FinetuneSettings, *, output: Output = QUIET) -> Run:
    """Train a network per cell of the settings and return the finished run.

    Args:
        settings: cells, search and seeds, as of `uml_train.train`; the cache holds the auxiliaries' features.
        tuning: the target's network and samples.

    Raises:
        InputError: settings that do not go together, data or weights that are missing, classes that do not
            meet, draws larger than the data.
        WorkError: a sample cannot be read any more.
    """
    tuning.check_with(settings)
    ranks = Ranks.of_environment()
    output = output if ranks.first else QUIET
    with ExitStack() as stack:
        session = _open(settings, tuning, ranks, output, stack)
        resolved = session.settings
        grid = load_grid(resolved.grid, alpha=resolved.alpha, ratio=resolved.ratio, family=_FAMILY)
        _check_batches(grid, session)
        described = _described(session)
        arguments = (resolved, session.selection, session.unrelated, session.problem, grid, described)
        ranks.in_turn(lambda: begin(*arguments))
        run = begin(*arguments)
        remark_classes(session.problem, resolved, output)
        with run_lock(run.path, output, ranks):
            todo = missing_cells(cells_of(resolved, session.problem, resolved.shots or ()), run)
            _train(run, session, todo, output)
    return run


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Raises:
        InputError: data, weights or stores are gone or have changed since the run.
    """
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    wanted = named_cells(run, settings, shots)
    todo = missing_cells(wanted, run)
    if not todo:
        return []
    with ExitStack() as stack:
        session = _reopened(run, settings, output, stack)
        for cell in todo:
            draw_rows(session.problem, cell.shots, cell.seed)
        with run_lock(run.path, output):
            todo = missing_cells(wanted, run)
            _train(run, session, todo, output)
            extend_splits(run, session.problem, {(cell.shots, cell.seed) for cell in todo})
    return todo


def _reopened(run: Run, settings: TrainSettings, output: Output, stack: ExitStack) -> _Session:
    tuning = FinetuneSettings.from_json(run.config["finetune"])
    session = _open(settings, tuning, Ranks(), output, stack)
    now = {role.label: role.store.fingerprint for role in _roles(session)}
    for label, store in run.config["stores"].items():
        if now.get(label) != store["fingerprint"]:
            raise InputError(f"{label} has changed since {run.path} was trained; train again")
    if _described(session)["networks"] != run.config["finetune"]["networks"]:
        raise InputError(f"the network's weights have changed since {run.path} was trained; train again")
    return session


def _open(
    settings: TrainSettings, tuning: FinetuneSettings, ranks: Ranks, output: Output, stack: ExitStack
) -> _Session:
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
    backbone = Backbone(encoder, kind=tuning.start, freeze=tuning.freeze)
    workers = worker_count(tuning.workers, ranks.world)
    target = _part(
        manifest, backbone, tuning.views, workers, settings, ranks, output, stack, variant=tuning.variant
    )
    tuned = None
    if tuning.tune_aux is not None and tuning.aux_data is not None:
        other = load_trainable(tuning.tune_aux, device="cpu")
        theirs = _manifest(tuning.aux_data, manifest.name, other)
        if theirs.name != manifest.name:
            raise InputError(
                f"--aux-data is of data set {theirs.name!r}, --data of {manifest.name!r}; they meet by name"
            )
        network = Backbone(other)
        tuned = _part(
            theirs, network, tuning.views, workers, settings, ranks, output, stack, real=True, variant="tuned"
        )
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
        opened={part.role.label: part.rows for part in parts},
    )
    for remark in problem.remarks:
        output.say(remark)
    resolved = resolve(settings, selection, problem, output)
    return _Session(resolved, tuning, selection, unrelated, problem, target, tuned, ranks, device)


def _manifest(data: str, name: str | None, encoder: Trainable) -> Manifest:
    manifest = resolve_data(data, modality=encoder.spec.modality)
    if name is None or manifest.name == name:
        return manifest
    return resolve_data(data, name=name, modality=encoder.spec.modality)


def _part(
    manifest: Manifest,
    backbone: Backbone,
    views: str,
    workers: int,
    settings: TrainSettings,
    ranks: Ranks,
    output: Output,
    stack: ExitStack,
    *,
    real: bool = False,
    variant: str | None = None,
) -> _Part:
    loader = stack.enter_context(Loader(manifest, backbone.encoder, views=views, workers=workers))
    ranks.in_turn(lambda: check_readable(loader, manifest, settings.out, output))
    lost = check_readable(loader, manifest, settings.out, QUIET)
    rows = ManifestRows(
        manifest,
        backbone.encoder,
        lost,
        lambda: _features(backbone, loader, lost),
        real=real,
        variant=variant,
    )
    role = Role(manifest.store_name, rows.info)
    return _Part(role, manifest, backbone, loader, rows)


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


def _check_batches(grid: Grid, session: _Session) -> None:
    smallest = min(candidate.batch_size for candidate in grid.candidates)
    if smallest < session.ranks.world:
        raise InputError(
            f"{session.ranks.world} processes share a batch of {smallest}; use fewer, or a larger batch_size"
        )


def _roles(session: _Session) -> list[Role]:
    return [session.selection.target, *session.selection.auxiliaries, *session.unrelated]


def _described(session: _Session) -> dict[str, Any]:
    """What the run's configuration says of the fine-tuning."""
    parts = [session.target] if session.tuned is None else [session.target, session.tuned]
    values = session.finetune.to_json()
    for key in ("data", "aux_data", "weights", "encoder", "tune_aux"):
        if values[key] is not None and Path(values[key]).exists():
            values[key] = os.path.abspath(values[key])
    networks = {part.role.label: part.backbone.encoder.spec.to_json() for part in parts}
    return {**values, "networks": networks}


def _train(run: Run, session: _Session, todo: Sequence[Cell], output: Output) -> None:
    began = time.perf_counter()
    grid = run_grid(run)
    to_train = [cell for cell in todo if cell.method != AUTO]
    for folder in ("checkpoints", "backbones"):
        (run.path / folder).mkdir(exist_ok=True)
    session.ranks.wait()
    with output.progress(len(to_train), "cell", "fine-tuning") as bar:
        for cell in to_train:

            def told(step: int, accuracy: float, cell: Cell = cell) -> None:
                bar.set_postfix_str(f"{cell.key}: step {step}, val {accuracy:.1f}")

            bar.set_postfix_str(_train_cell(run, session, grid, cell, told))
            bar.update(1)

    def finish() -> None:
        choose(run, [cell for cell in todo if cell.method == AUTO])
        run.write_tables()

    session.ranks.in_turn(finish)
    if todo:
        count = f"{len(to_train)} cell{'s' * (len(to_train) != 1)}"
        output.say(f"fine-tuned {count} in {time.perf_counter() - began:.0f} s")


def _train_cell(run: Run, session: _Session, grid: Grid, cell: Cell, told: Any) -> str:
    began = time.perf_counter()
    prepared = prepare(session.problem, cell, session.settings, grid)
    fitted: list[Fitted] = []
    tuner, state = None, None
    seconds: list[float] = []
    checkpoints = [
        Checkpoint(run.path / "checkpoints" / f"{cell.key}.{i}.pt") for i in range(len(prepared.models))
    ]
    for i, checkpoint in enumerate(checkpoints):
        start = time.perf_counter()
        tuner = _tuner(session, cell, prepared, i, grid)
        found, state = tuner.fit(checkpoint, told)
        fitted.append(found)
        seconds.append(time.perf_counter() - start)
    selected = min(range(len(fitted)), key=lambda i: (-fitted[i].val_acc, fitted[i].best_step, i))
    if tuner is None or state is None or selected != len(fitted) - 1:
        tuner = _tuner(session, cell, prepared, selected, grid)
        _, state = tuner.fit(checkpoints[selected])  # finished: this only brings its best state back
    target = session.problem.target
    predictions = tuner.predict(target.rows[session.problem.test]).astype(np.int32)
    labels = target.labels[session.problem.test]
    trained = Trained(
        prepared=prepared,
        fitted=fitted,
        seconds=seconds,
        selected=selected,
        predictions=predictions,
        test_acc=100.0 * float((predictions == labels).mean()),
    )
    remarks: list[str] = []

    def write() -> None:
        if session.finetune.keep:
            _write_backbones(run, session, cell, tuner, state)
        spent = time.perf_counter() - began
        remarks.append(keep_cell(run, session.problem, grid, cell, session.settings, trained, spent))
        for checkpoint in checkpoints:
            checkpoint.path.unlink(missing_ok=True)

    session.ranks.in_turn(write)
    return remarks[0] if remarks else ""


def _tuner(session: _Session, cell: Cell, prepared: Prepared, index: int, grid: Grid) -> Tuner:
    problem, tuned = session.problem, session.tuned
    draw = draw_rows(problem, cell.shots, cell.seed)
    model = prepared.models[index]
    streams = [_stream(session.target, problem.target, draw.train)]
    for samples in model.auxiliaries:
        if tuned is None or samples.name != tuned.role.label:
            streams.append(Stream())
            continue
        source = problem.auxiliaries[samples.name]
        positions = auxiliary_positions(source, cell.seed, session.settings.texts)
        streams.append(_stream(tuned, source, positions, session.finetune.aux_lr))
    if session.finetune.recompute:
        for stream in streams:
            if stream.backbone is not None:
                stream.backbone.encoder.checkpoint_gradients()
    return Tuner(
        Task(
            model=model,
            streams=streams,
            validation=problem.target.rows[draw.val],
            unfreeze_at=session.finetune.unfreeze_at,
        ),
        grid.schedule,
        device=session.device,
        precision=session.settings.precision,
        ranks=session.ranks,
    )


def _stream(part: _Part, source: Source, positions: np.ndarray, lr: float | None = None) -> Stream:
    return Stream(backbone=part.backbone, loader=part.loader, rows=source.rows[positions], lr=lr)


def _write_backbones(run: Run, session: _Session, cell: Cell, tuner: Tuner, state: State) -> None:
    """The target's network under the cell's name; an auxiliary's with its modality behind."""
    for i, stream in enumerate(tuner.task.streams):
        if stream.backbone is None:
            continue
        prefix = f"networks.{i}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        name = cell.key if i == 0 else f"{cell.key}-{tuner.model.streams[i].name}"
        stream.backbone.write(own, run.path / "backbones" / name)
