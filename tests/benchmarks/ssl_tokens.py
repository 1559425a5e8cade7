"""A shared transformer on ragged sequences: packed, against a plain padded `nn.TransformerEncoder` loop.

Lengths 5..77, uniformly; the same batches, losses and optimiser on both sides, dropout 0.1, one thread each,
interleaved step by step. Tokens are real ones: padding counts for nobody.

    python tests/benchmarks/ssl_tokens.py [--rounds 8]

On a CUDA device it also prints model-FLOP utilisation: 6 · parameters of the trunk · tokens a step (forward
and backward), and attention's own products, over the rate of a large product in the same precision, measured
in the same run. Without one it says that this was not measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from uml_train.pretrain.network.dropout import Dropout
from uml_train.pretrain.network.packing import Layout, TokenBatch
from uml_train.pretrain.network.shared_transformer import SharedTransformer, TransformerConfig

SHORTEST, LONGEST, DROPOUT = 5, 77, 0.1
SHAPES = (  # name, width, layers, heads, features of a token
    ("multibench 40", 40, 5, 5, 35),
    ("multibench 300", 300, 5, 5, 300),
    ("vision-text", 256, 4, 4, 768),
)


class Plain(nn.Module):
    """The usual way: pad to the batch's longest, mask, torch's encoder."""

    def __init__(self, config: TransformerConfig, dim: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, DROPOUT, batch_first=True
        )
        self.into, self.out = nn.Linear(dim, config.width), nn.Linear(config.width, dim)
        self.project = nn.Linear(config.width, config.width, bias=False)
        self.trunk = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def loss(self, sequences: list[Tensor]) -> Tensor:
        x = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        lengths = torch.tensor([len(s) for s in sequences], device=x.device)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        pad = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, -torch.inf)
        hidden = self.trunk(self.project(self.into(x)), mask=mask, src_key_padding_mask=pad, is_causal=True)
        errors = (self.out(hidden)[:, :-1] - x[:, 1:]).square().mean(2)
        return errors[~padding[:, 1:]].mean()


def race(name: str, config: TransformerConfig, dim: int, batch: int, rounds: int, device: str) -> None:
    """Steps of both sides in turn; tokens a second and the ratio, medians."""
    packed, plain = SharedTransformer(config, {"x": dim}).to(device), Plain(config, dim).to(device)
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-4, foreach=True) for m in (packed, plain)]
    rng = np.random.default_rng(0)
    rates: list[tuple[float, float]] = []
    for step in range(rounds + 1):
        lengths = np.sort(rng.integers(SHORTEST, LONGEST + 1, batch))
        values = torch.from_numpy(rng.standard_normal((int(lengths.sum()), dim)).astype(np.float32)).to(
            device
        )
        source = np.random.Generator(np.random.SFC64(step)) if device == "cpu" else None
        pair = []
        for side, optimizer in enumerate(optimizers):
            _wait(device)
            began = time.perf_counter()
            if side == 0:
                one = TokenBatch(values, Layout(lengths, device))
                hidden = packed(one, "x", Dropout(DROPOUT, source))
                loss = packed.prediction_loss(hidden, one, "x") / one.targets
            else:
                loss = plain.loss(list(values.split(lengths.tolist())))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _wait(device)
            pair.append(len(values) / (time.perf_counter() - began))
        rates.append((pair[0], pair[1]))
    rates = rates[1:]
    ours, theirs = (statistics.median(r[i] for r in rates) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in rates)
    print(f"{name:<16}{batch:>6}{ours:>14,.0f}{theirs:>14,.0f}{ratio:>9.2f}×", flush=True)
    if device == "cuda":
        trunk = sum(p.numel() for p in packed.blocks.parameters())
        attention = 12 * config.layers * config.width * (SHORTEST + LONGEST) / 2
        print(f"{'':<16}model-FLOP utilisation {100 * ours * (6 * trunk + attention) / _peak():.1f} %")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(size: int = 8192) -> float:
    """Operations a second of one large float32 product on the GPU."""
    a = torch.rand(size, size, device="cuda")
    a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    return 5 * 2 * size**3 / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)  # of the rival, about its own fast path
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, load {load:.1f}")
    print(f"{'':<16}{'batch':>6}{'packed tok/s':>14}{'padded tok/s':>14}{'ratio':>10}")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, width, layers, heads, dim in SHAPES:
            config = TransformerConfig(width=width, layers=layers, heads=heads, dropout=DROPOUT)
            race(name, config, dim, 32, arguments.rounds, device)
    if not torch.cuda.is_available():
        print("no CUDA device: model-FLOP utilisation was not measured")


if __name__ == "__main__":
    main()
