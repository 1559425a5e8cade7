"""The transformer trunk: its equations, ragged batches, runs over tokens, and heads that take tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from toy_stores import clusters, write_store
from uml_cache import open_features
from uml_cache.command import QUIET, Output
from uml_cache.errors import InputError
from uml_train import Cell, HeadBank, HeadModel, Samples, TrainSettings, load_head, load_run, train
from uml_train.data.batches import BatchOrder
from uml_train.data.rows import Held, Packed
from uml_train.heads.sequence_model import SequenceTrainer
from uml_train.heads.transformer import HEADS, Block, Padding, attend, initial_blocks, run_blocks
from uml_train.heads.weights import class_mean_rows, initial_weights, seeded
from uml_train.protocols.grid import Candidate, Schedule
from uml_train.runs.drawn import auxiliary_rows
from uml_train.runs.head_session import open_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.settled.combinations import named_cells

Settings = Callable[..., TrainSettings]
LENGTHS = (3, 1, 7, 4)
SCHEDULE = Schedule(steps=30, warmup=3, eval_every=10, patience=5)


def _offsets(lengths: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(lengths)])


def _blocks(width: int, hidden: int, layers: int = 2) -> tuple[Block, ...]:
    """Blocks with nothing left at zero."""
    blocks = initial_blocks(width, hidden, [seeded(1, "block", i) for i in range(layers)])
    torch.manual_seed(0)
    for block in blocks:
        for part in block.parts:
            part.add_(0.2 * torch.randn_like(part))
    return blocks


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_are_torchs_encoder_layers_sample_by_sample(causal: bool) -> None:
    width, hidden = 16, 12
    blocks, tokens = _blocks(width, hidden), torch.randn(sum(LENGTHS), width)
    offsets = _offsets(LENGTHS)
    ours = run_blocks(blocks, tokens, offsets, causal=causal)
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        z = tokens[None, first:last]
        mask = nn.Transformer.generate_square_subsequent_mask(last - first) if causal else None
        for block in blocks:
            layer = nn.TransformerEncoderLayer(
                width, HEADS, hidden, 0.0, "gelu", batch_first=True, norm_first=True
            )
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.zero_()
                layer.norm1.weight.copy_(block.norm1[0])
                layer.norm1.bias.copy_(block.norm1[1])
                layer.norm2.weight.copy_(block.norm2[0])
                layer.norm2.bias.copy_(block.norm2[1])
                layer.self_attn.in_proj_weight.copy_(block.qkv)
                layer.self_attn.out_proj.weight.copy_(block.mix)
                layer.linear1.weight.copy_(block.up)
                layer.linear2.weight.copy_(block.down)
                z = layer(z, src_mask=mask)
        torch.testing.assert_close(ours[first:last], z[0], rtol=1e-4, atol=1e-5)


def test_what_is_padded_is_seen_by_no_token_and_gets_no_gradient() -> None:
    padding = Padding(_offsets(LENGTHS))
    q, k, v = (torch.randn(sum(LENGTHS), 8, requires_grad=True) for _ in range(3))
    together = attend(q, k, v, padding, heads=2)
    at = 0
    for length in LENGTHS:
        part = slice(at, at + length)
        alone = attend(q[part], k[part], v[part], Padding(_offsets((length,))), heads=2)
        torch.testing.assert_close(together[part], alone, rtol=1e-5, atol=1e-6)
        at += length
    # The gradient of one sample's output reaches that sample's tokens only.
    (grad,) = torch.autograd.grad(together[: LENGTHS[0]].sum(), k)
    assert torch.count_nonzero(grad[LENGTHS[0] :]) == 0
    assert torch.isfinite(grad).all()


def test_an_output_does_not_depend_on_the_batch() -> None:
    weights = initial_weights([("image", 6, True, 2.0)], classes=3, width=8, seed=1, hidden=5, layers=2)
    for block, other in zip(weights.blocks, _blocks(8, 5), strict=True):
        for mine, theirs in zip(block.parts, other.parts, strict=True):
            mine.copy_(theirs)
    lengths = (2, 9, 1, 5, 0)
    samples = Held(torch.randn(sum(lengths), 6), _offsets(lengths))
    whole = weights.logits(samples.take(torch.arange(5)))
    assert torch.isfinite(whole).all()
    for i in range(5):
        torch.testing.assert_close(weights.logits(samples.take(torch.tensor([i])))[0], whole[i])
    order = torch.tensor([3, 1])
    torch.testing.assert_close(weights.logits(samples.take(order)), whole[order])
    with pytest.raises(ValueError, match="no linear map"):
        weights.effective()


def test_trunk_begins_where_the_linear_one_begins() -> None:
    features = Held(torch.randn(sum(LENGTHS), 8), _offsets(LENGTHS))
    rows, missing = class_mean_rows(features, torch.tensor([0, 1, 1, 2]), 4, seed=1)
    assert missing == [3]
    means = features.take(torch.arange(4)).means()
    torch.testing.assert_close(means[2], features.values[4:11].mean(0))
    torch.testing.assert_close(rows[1], nn.functional.normalize(means[1:3].mean(0), dim=0))
    weights = initial_weights(
        [("text", 8, False, 1.0)], classes=4, width=8, seed=1, head=rows, hidden=4, layers=2
    )
    torch.testing.assert_close(weights.logits(features.take(torch.arange(4))), means @ rows.T)


def _samples(name: str, count: int, dim: int, seed: int, *, projected: bool, longest: int = 6) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    labels = torch.arange(count) % 3
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    centres = torch.randn(3, dim, generator=torch.Generator().manual_seed(dim))
    values = torch.repeat_interleave(centres[labels], lengths, 0)
    values = values + 0.7 * torch.randn(len(values), dim, generator=generator)
    return Samples(name=name, features=Held(values, offsets), labels=labels, projected=projected)


def _model(**values: object) -> HeadModel:
    target = _samples("image", 12, 5, 1, projected=True)
    val = _samples("image", 9, 5, 2, projected=True)
    common = {
        "target": target,
        "auxiliaries": (_samples("text", 15, 8, 3, projected=False),),
        "validation": (val.features, val.labels),
        "classes": 3,
        "width": 8,
        "seed": 1,
        "candidate": Candidate(lr=0.01, weight_decay=0.01, batch_size=4, learnable_scale=True),
        "hidden": 6,
        "layers": 2,
    }
    return HeadModel(**{**common, **values})  # type: ignore[arg-type]


def test_gradient_is_that_of_the_losses_as_the_paper_sums_them() -> None:
    model = _model(alpha=0.7, ratio=2.0)
    trainer = SequenceTrainer(model, SCHEDULE, BatchOrder(), device=torch.device("cpu"))
    trainer.flat.add_(0.1 * torch.randn(len(trainer.flat), generator=torch.Generator().manual_seed(0)))
    assert len(trainer.flat) == model.parameters
    trainer._draw(0, 1)
    likelihood = trainer._gradient(0)
    flat = trainer.flat.clone().requires_grad_()
    weights = model.start().view_of(flat, scales=True)
    loss = torch.zeros(())
    found = []
    for i, (stream, weight) in enumerate(zip(model.streams, (1.0, 0.7), strict=True)):
        for rows in trainer.rows[i][0].split(4):  # two batches of the auxiliary, their losses summed
            assert isinstance(stream.features, Held)
            logits = weights.logits(stream.features.take(rows), i)
            loss = loss + weight * nn.functional.cross_entropy(logits, stream.labels[rows])
            found.append(logits.softmax(1).gather(1, stream.labels[rows][:, None]))
    (expected,) = torch.autograd.grad(loss, flat)
    torch.testing.assert_close(trainer.grad, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(likelihood, torch.cat(found).detach())


def test_model_in_a_bank_is_the_model_alone_and_learns() -> None:
    models = [_model(seed=s, auxiliaries=a) for s in (1, 2) for a in ((), _model().auxiliaries)]
    schedule = replace(SCHEDULE, steps=20)
    together = HeadBank(models, schedule).fit()
    alone = HeadBank([models[3]], schedule).fit()[0]
    assert torch.equal(together[3].weights.flatten(scales=True), alone.weights.flatten(scales=True))
    assert together[3].history == alone.history
    assert min(f.val_acc for f in together) > 40
    moved = together[1].weights.blocks[1].down
    assert moved.abs().sum() > 0
    # Stacked banks train such models one after the other.
    again = HeadBank(models[1:2], schedule, stacked=True).fit()
    assert torch.equal(again[0].weights.head, together[1].weights.head)


def test_sequences_need_the_transformer() -> None:
    with pytest.raises(ValueError, match="sequences need the transformer trunk"):
        _model(layers=0)


@pytest.fixture
def token_cache(tmp_path: Path) -> Path:
    """Pictures and texts with tokens of different lengths, sounds without."""
    feats = tmp_path / "tokens"
    generator = np.random.default_rng(0)

    def ragged(values: np.ndarray, dim: int) -> list[np.ndarray]:
        tiled = np.concatenate([values, values], 1)[:, :dim]
        return [row + generator.standard_normal((generator.integers(1, 6), dim)) * 0.7 for row in tiled]

    labels, words = np.tile(np.arange(5), 32), np.tile(np.arange(5), 10)
    pictures, texts = clusters(1, labels, 12, 1.0), clusters(2, words, 16, 0.5)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(feats, "image", pictures, labels, splits, tokens=ragged(pictures, 9), variant="tokens")
    write_store(feats, "image", pictures, labels, splits)
    write_store(feats, "text", texts, words, np.full(50, 255), tokens=ragged(texts, 14))
    write_store(feats, "audio", clusters(3, words, 10, 0.5), words, np.full(50, 255))
    return feats


def test_run_over_tokens(token_cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    grid = tmp_path / "short.toml"
    grid.write_text("lr = [0.01, 0.003]\nsteps = 20\nwarmup = 2\neval_every = 10\nbatch_size = [8]\n")
    run = train(
        settings_for(
            token_cache, trunk="transformer", seeds=(1,), auxiliaries=(("audio", "text"),), grid=str(grid),
            normalize="standard", controls=("random",),
            methods=("unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "auto"),
        )
    )  # fmt: skip
    assert {r.trunk for r in run.cells if r.cell.method not in ("unimodal", "auto")} == {"transformer"}
    assert {r.trunk for r in run.cells if r.cell.method == "unimodal"} == {"linear"}
    # The shared width is that of the first auxiliary's tokens, or of its vectors where it has none.
    assert {r.cell.shared_width for r in run.cells if r.cell.method == "uml"} == {10}
    assert {len(r.candidates) for r in run.cells if r.chosen is None} == {2}
    assert max(r.test_acc for r in run.cells if r.cell.method == "uml") > 30
    features = open_features(token_cache / "toy" / "image" / "made-up@tokens.zarr")
    rows = np.flatnonzero(features.split == 2)
    values, offsets = features.tokens.packed(rows)
    for result in run.cells:
        head = load_head(result.head_path)
        if result.trunk == "linear":
            assert np.array_equal(head.predict(features.pooled[rows].float()), result.test_predictions)
            continue
        assert np.array_equal(head.predict(values.float(), offsets), result.test_predictions)
        shares = head.predict_proba(values.float().numpy(), offsets.numpy())
        assert np.array_equal(shares.argmax(1), result.test_predictions)
    first = values[offsets[0] : offsets[1]].float()
    torch.testing.assert_close(head.logits(first[None]), head.logits(values.float(), offsets)[:1])
    with pytest.raises(InputError, match=r"takes the tokens of made-up@tokens: \(n, T, 9\)"):
        head.logits(first)
    with pytest.raises(InputError, match="ONNX export is for heads of pooled features"):
        head.to_onnx(token_cache / "head.onnx")
    stores = load_run(run.path).config["stores"]
    assert (stores["image"]["token_dim"], stores["audio"]["token_dim"]) == (9, None)
    settings = replace(run.settings, methods=("unimodal-deep",), auxiliaries=(("text",),), controls=())
    named = {c.shared_width for c in named_cells(run, settings, ("all",))}
    assert named == {14}


def test_class_means_of_sequences_are_one_vector_and_controls_move_all_tokens(
    token_cache: Path, settings_for: Settings
) -> None:
    settings = settings_for(token_cache, trunk="transformer", auxiliaries=(("text",),))
    problem = open_heads(settings, Ranks(), QUIET).problem
    source = problem.auxiliaries["text"]
    cell = Cell(auxiliaries=("text",), method="uml", control=None, shots=2, seed=1, shared_width=14)
    rows, labels = auxiliary_rows(source, cell, settings)
    means, classes = auxiliary_rows(source, cell, replace(settings, texts="mean"))
    assert (rows.ragged, means.ragged, classes.tolist()) == (True, False, [0, 1, 2, 3, 4])
    pooled = rows.take(torch.arange(50)).means()
    torch.testing.assert_close(means.take(torch.tensor([2])).values[0], pooled[labels == 2].mean(0))
    moved, _ = auxiliary_rows(source, replace(cell, control="random"), settings)
    shift = (moved.take(torch.tensor([7])).values - rows.take(torch.tensor([7])).values).unique(dim=0)
    assert len(shift.round(decimals=4).unique(dim=0)) == 1
    few, _ = auxiliary_rows(source, cell, replace(settings, texts=2))
    assert len(few) == 10


def test_without_tokens_it_says_how_to_get_them(
    cache: Path, token_cache: Path, settings_for: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="uml extract --encoder made-up --tokens") as raised:
        train(settings_for(cache, trunk="transformer"))
    assert "\n" not in str(raised.value)
    settings = settings_for(token_cache, trunk="transformer", methods=("unimodal",))
    run = train(settings, output=Output())
    assert run.config["stores"]["image"]["encoder"] == "made-up@tokens"
    assert open_heads(settings_for(token_cache), Ranks(), QUIET).problem.target.encoder == "made-up"
    assert "audio has no tokens, so each of its samples is one vector" in capsys.readouterr().err


def test_packed_means() -> None:
    packed = Packed(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 3]))
    assert packed.means().tolist() == [[0.0, 1.0], [3.0, 4.0]]
    assert len(packed) == 2
