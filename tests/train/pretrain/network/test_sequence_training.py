"""Training a shared transformer: curriculum, checkpoints, processes, and what a batch holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from token_stores import write_sequences
from uml_cache import open_features
from uml_cache.errors import InputError
from uml_train.data.batches import batch_rows
from uml_train.pretrain.network.network_training import (
    NetworkTrainer,
    PretrainingTask,
    Timetable,
    Where,
    embed_rows,
)
from uml_train.pretrain.network.sequences import Sequences, pieces, sequences
from uml_train.pretrain.network.shared_transformer import SharedTransformer, TransformerConfig
from uml_train.pretrain.searches import Pretraining, load_pretraining
from uml_train.record.checkpoint import Checkpoint
from uml_train.runs.ranks import Ranks

STEPS = 8


@pytest.fixture
def streams(tmp_path: Path) -> list[Sequences]:
    paths = [write_sequences(tmp_path, "image", 6, 40), write_sequences(tmp_path, "text", 4, 30)]
    return [
        sequences(name, open_features(path), np.arange(len(open_features(path))))
        for name, path in zip(("image", "text"), paths, strict=True)
    ]


def _model(streams: Sequence[Sequences], dropout: float = 0.1, classes: int = 0) -> SharedTransformer:
    config = TransformerConfig(width=8, layers=2, heads=2, feedforward=16, dropout=dropout)
    return SharedTransformer(config, {s.label: s.dim for s in streams}, seed=1, classes=classes)


def _task(streams: Sequence[Sequences], **values: Any) -> PretrainingTask:
    common = {"timetable": Timetable(target=STEPS), "lr": 1e-2, "batch_size": 8, "seed": 4}
    return PretrainingTask(streams=streams, **{**common, **values})


class _Stopper:
    """A progress bar at which a run dies after so many steps."""

    def __init__(self, after: int) -> None:
        self._left = after

    def update(self, n: int = 1, /) -> None:
        self._left -= n
        if self._left < 0:
            raise KeyboardInterrupt

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


_ENDLESS = 10**9


def test_a_killed_training_resumes_to_the_same_bits(streams: list[Sequences], tmp_path: Path) -> None:
    whole = _model(streams)
    expected = NetworkTrainer(whole, _task(streams, clip=1.0), Where()).fit(_Stopper(_ENDLESS))
    file = tmp_path / "checkpoint.pt"
    for after in (3, 2):  # killed twice, the second time on the way that the first left
        trainer = NetworkTrainer(
            _model(streams), _task(streams, clip=1.0), Where(), Checkpoint(file), minutes=0.0
        )
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(_Stopper(after))
    resumed = _model(streams)
    outcome = NetworkTrainer(resumed, _task(streams, clip=1.0), Where(), Checkpoint(file), minutes=0.0).fit(
        _Stopper(_ENDLESS)
    )
    assert outcome.history == expected.history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("timetable", "steps", "target", "auxiliary"),
    [
        (Timetable(target=4), 4, [0, 1, 2, 3], [0, 1, 2, 3]),
        (Timetable(target=4, first=2), 4, [0, 1, 2, 3], [None, None, 0, 1]),
        (Timetable(target=3, first=2, auxiliary_first=True), 5, [None, None, 0, 1, 2], [0, 1, 2, 3, 4]),
    ],
)
def test_curricula_leave_the_target_its_budget(
    timetable: Timetable, steps: int, target: list[int | None], auxiliary: list[int | None]
) -> None:
    assert timetable.steps == steps
    assert [timetable.batch_of(0, s) for s in range(steps)] == target
    assert [timetable.batch_of(1, s) for s in range(steps)] == auxiliary


def test_before_its_turn_a_modality_changes_nothing(streams: list[Sequences]) -> None:
    """During the target's own epochs uml and unimodal are the same network on the same batches."""
    alone, first = _model(streams[:1]), _model(streams)
    NetworkTrainer(alone, _task(streams[:1]), Where()).fit(_Stopper(_ENDLESS))
    waiting = Timetable(target=STEPS, first=STEPS)
    NetworkTrainer(first, _task(streams, timetable=waiting), Where()).fit(_Stopper(_ENDLESS))
    for name, value in alone.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name


def test_losses_are_those_of_the_batches_by_hand(streams: list[Sequences]) -> None:
    """One step of the joint objective: classes, the target's next tokens, λ times the auxiliary's."""
    labels = np.arange(40) % 3
    model = _model(streams, dropout=0.0, classes=3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    task = _task(streams, timetable=Timetable(target=1), labels=labels, supervised=1.0, own=0.3, weight=0.5)
    outcome = NetworkTrainer(model, task, Where()).fit(_Stopper(_ENDLESS))
    model.load_state_dict(before)
    expected: dict[str, float] = {"step": 0}
    with torch.no_grad():
        for stream, weight in zip(streams, (0.3, 0.5), strict=True):
            rows = batch_rows(seed=4, name=stream.label, rows=len(stream.rows), batch=8, start=0, steps=1)[0]
            sums, count, entropy = 0.0, 0, []
            for row in rows.tolist():
                one = stream.batch(np.array([row]))
                hidden = model(one, stream.label)
                predicted = model.out[stream.label](hidden)[:-1]
                sums += (predicted - one.values[1:]).square().mean(1).sum().item()
                count += len(predicted)
                logits = model.classify(hidden.mean(0, keepdim=True))
                entropy.append(torch.nn.functional.cross_entropy(logits, torch.tensor([row % 3])).item())
            expected[f"loss.{stream.label}"] = weight * sums / count
            if stream.label == "image":
                expected["loss.classes"] = float(np.mean(entropy))
    assert outcome.history[0] == pytest.approx(expected, rel=1e-4)


def test_more_processes_than_samples_are_refused(streams: list[Sequences]) -> None:
    with pytest.raises(InputError, match="9 processes cannot share a batch of 8"):
        NetworkTrainer(_model(streams), _task(streams), Where(ranks=Ranks(0, 9)))


def test_embeddings_of_rows_are_those_of_each_row_alone(streams: list[Sequences]) -> None:
    model = _model(streams).eval()
    rows = embed_rows(model, streams[0], Where())
    for i in (0, 7, 39):
        alone = model.embed(streams[0].batch(np.array([i])), "image")[0]
        np.testing.assert_allclose(rows[i], alone.numpy(), rtol=1e-4, atol=1e-5)


def test_rows_without_tokens_are_not_trained_on_and_embed_to_zeros(tmp_path: Path) -> None:
    features = open_features(write_sequences(tmp_path, "image", 6, 9, empty=(2, 5)))
    usable = sequences("image", features, np.arange(9))
    assert usable.rows.tolist() == [0, 1, 3, 4, 6, 7, 8]
    embedded = embed_rows(_model([usable]), usable.only(np.arange(9)), Where())
    assert (embedded[[2, 5]] == 0).all()
    assert (np.abs(embedded).sum(1) > 0).sum() == 7
    with pytest.raises(InputError, match="no sample with tokens"):
        sequences("image", features, np.array([2, 5]))


def test_standardised_tokens_and_noise_like_them(streams: list[Sequences]) -> None:
    standard = streams[0].standardised()
    values = standard.batch(np.arange(40)).values
    torch.testing.assert_close(values.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(0, unbiased=False), torch.ones(6), atol=1e-3, rtol=0)
    noise = streams[0].as_noise(3)
    real, drawn = streams[0].batch(np.arange(40)), noise.batch(np.arange(40))
    assert drawn.layout.lengths.tolist() == real.layout.lengths.tolist()
    assert not torch.allclose(drawn.values, real.values)
    torch.testing.assert_close(drawn.values.mean(0), real.values.mean(0), atol=0.4, rtol=0)
    one = noise.batch(np.array([11])).values  # a row's noise is its own, whatever the batch
    start = int(np.flatnonzero(np.sort(noise.lengths, kind="stable") == len(one))[0])
    assert any(
        torch.equal(one, drawn.values[at : at + len(one)]) for at in drawn.layout.starts[start:].tolist()
    )


def test_pieces_cover_every_sequence_once_in_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(0, 3000, 200)
    found = np.concatenate(list(pieces(lengths)))
    assert sorted(found.tolist()) == np.flatnonzero(lengths).tolist()
    assert (np.diff(lengths[found]) >= 0).all()


def test_every_method_gets_as_many_candidates() -> None:
    grid = replace(load_pretraining("multibench"), alpha=(0.5, 1.0))
    counts = {
        len(grid.candidates_for(auxiliaries=a, weighted=w)) for a in (True, False) for w in (True, False)
    }
    assert counts == {3 * 4 * 4 * 2}
    assert {c.lr for c in grid.candidates} == {1e-2, 1e-3, 1e-4}  # paper B.4.1
    assert len(set(grid.candidates_for(auxiliaries=False))) == 96
    assert {c.repeat for c in grid.candidates_for(auxiliaries=False)} == set(range(8))


def test_grids_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean multibench"):
        load_pretraining("multibnch")
    file = tmp_path / "own.toml"
    for text, words in (
        ("widths = [8]", "did you mean width"),
        ("width = [8.5]", "width is 8.5; it takes different numbers"),
        ("layers = [2]", "layers are 2; it takes a whole number"),
        ("steps = 5\nepochs = 5", "either epochs or steps"),
        ("width = [10]\nheads = 4", "no multiple"),
        ("step = [0, 5]", "no meaning under the curriculum joint"),
        ('curriculum = "target-first"\nepochs = 5\nstep = [5]', "never be trained on"),
        ("lr = [0.0]", "must be positive"),
        ("lr = ", "not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=words):
            load_pretraining(str(file))
    file.write_text('epochs = 3\nlr = 0.01\ncurriculum = "auxiliary-first"\nstep = [0, 1]\n')
    grid = load_pretraining(str(file), alpha=(0.5,))
    assert (grid.epochs, grid.steps, grid.lr, grid.step, grid.alpha) == (3, 0, (0.01,), (0, 1), (0.5,))
    assert isinstance(grid, Pretraining)


def test_probes_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from uml_train.pretrain.probe import Probe

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    x = (labels[:, None] * 0.8 + rng.standard_normal((80, 4)) * [1, 9, 0.1, 3]).astype(np.float32)
    models = {
        "raw": LogisticRegression(max_iter=200),
        "standardised": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "liblinear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, solver="liblinear")),
    }
    found = {}
    for kind, model in models.items():
        model.fit(x.astype(np.float64), labels)
        probe = Probe(x, labels, kind)
        found[kind] = probe.logits(x, 2).numpy()
        np.testing.assert_allclose(found[kind], model.predict_log_proba(x.astype(np.float64)), atol=1e-4)
    assert np.abs(found["raw"] - found["standardised"]).max() > 1e-3
    three = rng.integers(0, 3, 80)
    assert Probe(x, three, "liblinear").logits(x, 3).exp().sum(1).numpy() == pytest.approx(np.ones(80))


def test_auxiliary_first_comes_out_of_the_target_s_epochs(tmp_path: Path) -> None:
    """As the public code: epochs 0 … `step` are the auxiliary's alone, and -1 is no such epoch."""
    from uml_train.pretrain.arms import Arms
    from uml_train.run import Cell

    grid = replace(
        load_pretraining("multibench"), curriculum="auxiliary-first", step=(-1, 0, 2), epochs=10, batch_size=4
    )
    arms = Arms.__new__(Arms)
    object.__setattr__(arms, "grid", grid)
    cell = Cell(auxiliaries=("text",), method="uml", control=None, shots="all", seed=1, shared_width=0)
    steps = {}
    for candidate in grid.candidates[:3]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Arms, "epoch", lambda self, cell: 7)
            table = arms.timetable(cell, candidate)
        alone = sum(table.batch_of(0, s) is None for s in range(table.steps))
        steps[candidate.step] = (table.steps, alone, [table.batch_of(1, s) for s in (0, table.steps - 1)])
    assert steps == {-1: (70, 0, [0, 69]), 0: (70, 7, [0, 69]), 2: (70, 21, [0, 69])}
    with pytest.raises(InputError, match="target would never be trained on"):
        replace(grid, step=(9,))
    with pytest.raises(InputError, match="auxiliary-first alone"):
        replace(grid, step=(-1,), curriculum="target-first")
