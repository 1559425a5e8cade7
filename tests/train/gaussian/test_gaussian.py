"""The Gaussian experiment's data and network: against autograd, torch's Adam and the data's own moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from uml_cache.errors import InputError
from uml_train.data.batches import batch_rows
from uml_train.gaussian.autoencoder import INNER, LATENT, Autoencoder, Training
from uml_train.gaussian.experiment import GaussianJob, held_out_error
from uml_train.gaussian.world import World, draw

_LAYERS = ("into.x", "encode1", "encode2", "decode1", "decode2", "out.x")


def _plain(ours: Autoencoder, hidden: int) -> nn.Sequential:
    """The six layers one after the other, with the same weights."""
    sizes = ((50, INNER), (INNER, hidden), (hidden, LATENT), (LATENT, hidden), (hidden, INNER), (INNER, 50))
    layers = [nn.Linear(*size) for size in sizes]
    with torch.no_grad():
        for layer, name in zip(layers, _LAYERS, strict=True):
            weight, bias = ours._values[name]
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias)
    into, encode1, encode2, decode1, decode2, out = layers
    return nn.Sequential(into, encode1, nn.ReLU(), encode2, decode1, nn.ReLU(), decode2, out)


@pytest.mark.parametrize("hidden", [10, 128])
def test_gradient_and_training_are_those_of_plain_torch(hidden: int) -> None:
    data = draw(World(), 3, x=40, y=8, held_out=8).x
    ours = Autoencoder(["x"], 50, hidden, seed=2)
    plain = _plain(ours, hidden)
    x = data[:16]
    torch.testing.assert_close(ours.reconstruct(x, "x"), plain(x))
    ours.descend(x, "x")
    (plain(x) - x).square().mean().backward()
    linear = [layer for layer in plain if isinstance(layer, nn.Linear)]
    for layer, name in zip(linear, _LAYERS, strict=True):
        weight, bias = ours._gradients[name]
        torch.testing.assert_close(weight.T, layer.weight.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(bias, layer.bias.grad, rtol=1e-3, atol=1e-6)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    rows = batch_rows(seed=5, name="x", rows=40, batch=16, start=0, steps=20)
    for step in range(20):
        optimizer.zero_grad()
        (plain(data[rows[step]]) - data[rows[step]]).square().mean().backward()
        optimizer.step()
    ours.fit({"x": data}, Training(hidden=hidden, steps=20, batch_size=16), seed=5)
    torch.testing.assert_close(ours.reconstruct(data, "x"), plain(data), rtol=1e-3, atol=1e-3)


def test_the_world_is_the_paper_s() -> None:
    """X's variance per dimension: kept and attenuated common factors, private ones, noise variance 0.09."""
    drawn = draw(World(), 1, x=20_000, y=20_000, held_out=20_000)
    projections = [
        np.linalg.eigvalsh(np.cov(values.numpy().T)) for values in (drawn.x, drawn.held_out, drawn.y)
    ]
    noise = [float(np.median(e[:30])) for e in projections]
    assert noise == pytest.approx([0.09] * 3, rel=0.05)
    large = [int((e > 5).sum()) for e in projections]
    assert large == [1 + 5, 10 + 5, 10 + 5]
    faint = projections[0][-15:-6]  # nine common factors at a twentieth: 50 · 0.05² = 0.125 above the noise
    assert ((faint > 0.1) & (faint < 0.5)).all()
    assert float(drawn.noise.std()) == pytest.approx(float(drawn.y.std()), rel=0.02)
    smaller = draw(World(), 1, x=7, y=3, held_out=5)
    torch.testing.assert_close(smaller.x, drawn.x[:7])
    other = draw(World(), 2, x=7, y=3, held_out=5)
    assert not torch.allclose(other.x, smaller.x)


def test_arms_differ_in_their_data_alone() -> None:
    training = Training(hidden=10, steps=30, batch_size=32)
    errors = {
        arm: held_out_error(GaussianJob(arm=arm, seed=1, budget=200, training=training))
        for arm in ("x", "uml", "x-half", "uml-noise")
    }
    assert len(set(errors.values())) == 4
    again = GaussianJob(arm="uml", seed=1, budget=200, training=training)
    assert held_out_error(again) == errors["uml"]
    with pytest.raises(InputError, match="unknown arm"):
        GaussianJob(arm="y", seed=1)
