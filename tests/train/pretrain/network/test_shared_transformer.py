"""The packed transformer against plain torch with padding, and what must not depend on the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uml_cache.errors import InputError
from uml_train.pretrain.network.dropout import Dropout, FeedForward
from uml_train.pretrain.network.packing import Layout, TokenBatch, by_length
from uml_train.pretrain.network.shared_transformer import SharedTransformer, TransformerConfig

DIMS = {"image": 7, "text.cupl": 5}


def _batch(rng: np.random.Generator, lengths: list[int], dim: int) -> TokenBatch:
    values = torch.from_numpy(rng.standard_normal((sum(lengths), dim)).astype(np.float32))
    return TokenBatch(values, Layout(np.array(lengths)))


class _Plain(nn.Module):
    """Linear in, a 1×1 convolution, torch's own encoder, linear out, over padded sequences."""

    def __init__(self, ours: SharedTransformer) -> None:
        super().__init__()
        config = ours.config
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            config.feedforward,
            dropout=0.0,
            batch_first=True,
            norm_first=config.norm == "pre",
        )
        last = nn.LayerNorm(config.width) if config.norm == "pre" else None
        self.into = nn.ModuleList(nn.Linear(d, config.width) for d in DIMS.values())
        self.out = nn.ModuleList(nn.Linear(config.width, d) for d in DIMS.values())
        self.conv = nn.Conv1d(config.width, config.width, 1, bias=False)
        self.trunk = nn.TransformerEncoder(layer, config.layers, last, enable_nested_tensor=False)
        with torch.no_grad():
            for mine, theirs in ((self.into, ours.into), (self.out, ours.out)):
                for a, b in zip(mine, theirs.values(), strict=True):
                    a.load_state_dict(b.state_dict())
            self.conv.weight.copy_(ours.project.weight.unsqueeze(2))
            for a, b in zip(self.trunk.layers, ours.blocks, strict=True):
                a.self_attn.in_proj_weight.copy_(b.qkv.weight)
                a.self_attn.in_proj_bias.copy_(b.qkv.bias)
                a.self_attn.out_proj.load_state_dict(b.mix.state_dict())
                a.linear1.load_state_dict(b.up.state_dict())
                a.linear2.load_state_dict(b.down.state_dict())
                a.norm1.load_state_dict(b.norm1.state_dict())
                a.norm2.load_state_dict(b.norm2.state_dict())

    def forward(self, x: Tensor, lengths: Tensor, modality: int) -> tuple[Tensor, Tensor]:
        padding = torch.arange(x.shape[1]) >= lengths.unsqueeze(1)
        hidden = self.conv(self.into[modality](x).transpose(1, 2)).transpose(1, 2)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        pad = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
        hidden = self.trunk(hidden, mask=mask, src_key_padding_mask=pad)
        return hidden, self.out[modality](hidden)

    def loss(self, batch: TokenBatch, modality: int) -> Tensor:
        lengths = torch.from_numpy(batch.layout.lengths)
        sequences = list(batch.values.split(lengths.tolist()))
        x = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        predicted = self.forward(x, lengths, modality)[1]
        predicts = torch.arange(x.shape[1] - 1) < (lengths - 1).unsqueeze(1)
        errors = ((predicted[:, :-1] - x[:, 1:]) ** 2).mean(2)[predicts]
        single = ((predicted[:, 0] - x[:, 0]) ** 2).mean(1)[lengths == 1]
        return torch.cat([errors, single]).mean()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_loss_at_step_0_and_after_100_steps_is_that_of_plain_torch(norm: str) -> None:
    config = TransformerConfig(width=12, layers=2, heads=3, feedforward=24, dropout=0.0, norm=norm)
    ours = SharedTransformer(config, DIMS, seed=3)
    plain = _Plain(ours)
    optimizers = [torch.optim.Adam(m.parameters(), lr=3e-3) for m in (ours, plain)]
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(101):
        batches = [_batch(rng, sorted(rng.integers(1, 7, 4).tolist()), dim) for dim in DIMS.values()]
        ours_loss = sum(
            0.5**i * ours.prediction_loss(ours(b, m), b, m) / b.targets
            for i, (m, b) in enumerate(zip(DIMS, batches, strict=True))
        )
        plain_loss = sum(0.5**i * plain.loss(b, i) for i, b in enumerate(batches))
        losses.append((ours_loss.item(), plain_loss.item()))
        for optimizer, loss in zip(optimizers, (ours_loss, plain_loss), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses[0][0] == pytest.approx(losses[0][1], rel=1e-5)
    assert losses[100][0] == pytest.approx(losses[100][1], rel=1e-3)
    assert losses[100][0] < 0.9 * losses[0][0]


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal"])
def test_an_embedding_does_not_depend_on_its_batch_and_is_the_mean_of_plain_outputs(positions: str) -> None:
    config = TransformerConfig(width=12, layers=2, heads=3, feedforward=24, positions=positions, longest=40)
    model = SharedTransformer(config, DIMS)
    rng = np.random.default_rng(1)
    together = _batch(rng, [1, 2, 2, 3, 9, 10, 40], 7)
    embedded = model.embed(together, "image")
    for i, values in enumerate(together.values.split(together.layout.lengths.tolist())):
        alone = model.embed(TokenBatch(values, Layout(np.array([len(values)]))), "image")
        torch.testing.assert_close(alone[0], embedded[i], rtol=1e-4, atol=1e-5)
    if positions == "none":
        x = nn.utils.rnn.pad_sequence(
            list(together.values.split(together.layout.lengths.tolist())), batch_first=True
        )
        plain = _Plain(model).eval()
        hidden, _ = plain(x, torch.from_numpy(together.layout.lengths), 0)
        expected = hidden[4, :9].mean(0)
        torch.testing.assert_close(embedded[4], expected, rtol=1e-4, atol=1e-5)


def test_discrete_tokens_have_the_loss_and_gradients_of_plain_torch() -> None:
    """A table in, cross-entropy of the next id out, one sequence after the other."""
    rng = np.random.default_rng(3)
    config = TransformerConfig(width=8, layers=2, heads=2, feedforward=16, dropout=0.0)
    ours = SharedTransformer(config, {"image": 7, "text": 11}, seed=1, discrete=["text"])
    assert ours.into["text"].weight.shape == (11, 8)
    lengths = [1, 3, 6]
    ids = torch.from_numpy(rng.integers(0, 11, sum(lengths)))
    batch = TokenBatch(ids, Layout(np.array(lengths)))
    loss = ours.prediction_loss(ours(batch, "text"), batch, "text")
    expected, at = torch.zeros(()), 0
    for length in lengths:
        one = ids[at : at + length]
        # The trunk on a sequence of vectors is compared with torch's in the test above.
        vectors = ours.project(nn.functional.embedding(one, ours.into["text"].weight))
        layout = Layout(np.array([length]))
        for block in ours.blocks:
            vectors = block(vectors, layout, Dropout(0.0))
        logits = vectors @ ours.out["text"].weight.T + ours.out["text"].bias
        if length > 1:
            logits, one = logits[:-1], one[1:]
        expected = expected - logits.log_softmax(1)[torch.arange(len(one)), one].sum()
        at += length
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    used = [p for name, p in ours.named_parameters() if ".image." not in name]
    for mine, theirs in zip(
        torch.autograd.grad(loss, used, retain_graph=True), torch.autograd.grad(expected, used), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_positions_tell_the_order_apart() -> None:
    values = torch.ones(3, 7)
    for positions in ("none", "learned", "sinusoidal"):
        config = TransformerConfig(width=8, layers=1, heads=2, feedforward=16, positions=positions, longest=3)
        hidden = SharedTransformer(config, {"image": 7})(TokenBatch(values, Layout(np.array([3]))), "image")
        assert torch.allclose(hidden[0], hidden[2], atol=1e-5) == (positions == "none")
    config = TransformerConfig(width=8, heads=2, positions="learned", longest=3)
    model = SharedTransformer(config, {"image": 7})
    with pytest.raises(InputError, match="4 tokens"):
        model(TokenBatch(torch.ones(4, 7), Layout(np.array([4]))), "image")


def test_sinusoids_by_hand() -> None:
    config = TransformerConfig(width=4, layers=1, heads=2, feedforward=4, positions="sinusoidal")
    model = SharedTransformer(config, {"a": 2})
    waves = model._positions(Layout(np.array([1, 3])))
    rates = [1.0, 1 / 10_000]
    expected = [[*(math.sin(p * r) for r in rates), *(math.cos(p * r) for r in rates)] for p in (0, 0, 1, 2)]
    torch.testing.assert_close(waves, torch.tensor(expected))


def test_weights_of_a_modality_do_not_depend_on_the_others() -> None:
    config = TransformerConfig(width=10, layers=1, heads=2, feedforward=16)
    alone, both = SharedTransformer(config, {"image": 7}, 5), SharedTransformer(config, DIMS, 5)
    theirs = dict(both.named_parameters())
    for name, value in alone.named_parameters():
        assert torch.equal(value, theirs[name])
    other = dict(SharedTransformer(config, {"image": 7}, 6).named_parameters())
    assert not torch.equal(alone.project.weight, other["project.weight"])


def test_causal_attention_with_dropout_uses_its_own_generator() -> None:
    config = TransformerConfig(width=8, layers=2, heads=2, feedforward=32, dropout=0.3)
    model = SharedTransformer(config, {"a": 5})
    batch = _batch(np.random.default_rng(0), [2, 3, 3, 8], 5)

    def outputs(seed: int) -> Tensor:
        return model(batch, "a", Dropout(0.3, np.random.Generator(np.random.SFC64(seed))))

    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_feed_forward_has_the_gradients_of_autograd() -> None:
    rng = np.random.default_rng(0)
    shapes = ((9, 4), (6, 4), (6,), (4, 6), (4,))
    inputs = [torch.from_numpy(rng.standard_normal(s).astype(np.float32)).requires_grad_() for s in shapes]
    drop = Dropout(0.4, np.random.Generator(np.random.SFC64(1)))
    result = FeedForward.apply(*inputs, drop)
    kept = Dropout(0.4, np.random.Generator(np.random.SFC64(1))).kept(9 * 6).reshape(9, 6)
    x, up, up_bias, down, down_bias = inputs
    hidden = (x @ up.T + up_bias).relu() * torch.from_numpy(kept) / (1 - round(0.4 * 65536) / 65536)
    expected = hidden @ down.T + down_bias
    torch.testing.assert_close(result, expected)
    weight = torch.from_numpy(rng.standard_normal((9, 4)).astype(np.float32))
    ours = torch.autograd.grad((result * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    drop = Dropout(0.1, np.random.Generator(np.random.SFC64(0)))
    values = drop(torch.ones(1000, 401))
    assert float((values == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(values.mean()) == pytest.approx(1.0, abs=0.002)


def test_layout_of_like_lengths() -> None:
    lengths = np.array([1, 1, 2, 9, 10, 11, 30])
    layout = Layout(lengths)
    assert sum(count for count, _ in layout.blocks) == len(lengths)
    assert layout.blocks == [(3, 2), (3, 11), (1, 30)]
    tokens = torch.arange(layout.tokens)
    assert torch.equal(tokens[layout.gather][layout.scatter], tokens)
    predict, to = layout.predicted
    assert predict.tolist()[:4] == [0, 1, 2, 4]  # two sequences of one token, one of two, the first of nine
    assert to.tolist()[:4] == [0, 1, 3, 5]
    assert len(predict) == TokenBatch(torch.zeros(64, 1), layout).targets == 1 + 1 + 1 + 8 + 9 + 10 + 29
    assert by_length(np.array([7, 3, 5]), np.array([4, 2, 4])).tolist() == [3, 7, 5]


def test_impossible_shapes_are_refused() -> None:
    for values, words in (
        ({"width": 10, "heads": 4}, "no multiple"),
        ({"dropout": 1.0}, "below 1"),
        ({"norm": "psot"}, "did you mean post"),
        ({"positions": "fourier"}, "unknown positions"),
        ({"layers": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            TransformerConfig(**values)
