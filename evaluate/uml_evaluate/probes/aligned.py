"""Rivals that need a joint space: zero-shot, the cross-modal linear probe, Tip-Adapter(-F), LP++.

Shapes: n training rows, m texts, q queries, D features (of both modalities), C classes.
Features, keys and logits are float32.

All work on unit vectors x and the zero-shot logits 100 · x · t_c, where t_c is the class's mean text
embedding brought to unit length.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear
from uml_evaluate.probes.logreg import by_strength, penalties_of
from uml_train import fit_softmax

BLENDS = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0)
SHARPNESSES = (1.0, 2.5, 5.5, 7.0)
KEY_RATE, KEY_EPOCHS, KEY_BATCH, KEY_DECAY = 1e-3, 20, 256, 0.01


def zero_shot(episodes: list[Episode]) -> list[list[Candidate]]:
    """Class prompts alone: no labelled row of the target is used, and there is nothing to tune."""
    return [[Candidate({}, _text_head(episode))] for episode in episodes]


def _text_head(episode: Episode) -> Linear:
    _, _, means = episode.auxiliary()
    return Linear(episode.scale * means, torch.zeros(episode.classes))


def cross_modal_probe(episodes: list[Episode]) -> list[list[Candidate]]:
    """Cross-modal adaptation's linear probe (Lin et al. 2023): texts are further training samples.

    One linear layer on the union of both modalities' rows, each modality with half of the weight, as batches
    that hold equal parts of both give it. Solved as a tuned logistic regression instead of by AdamW.
    """
    rows = [(e.features, e.labels, *e.auxiliary()[:2]) for e in episodes]
    features = torch.stack([torch.cat([x, t]) for x, _, t, _ in rows])
    labels = torch.stack([torch.cat([y, c]) for _, y, _, c in rows])
    importance = torch.stack(
        [torch.cat([torch.full((len(y),), n / (2 * len(y))) for y in (own, texts)])
         for _, own, _, texts in rows for n in [len(own) + len(texts)]]
    )  # fmt: skip
    penalties = torch.stack([penalties_of(x) for x in features])
    found = fit_softmax(features, labels, penalties, episodes[0].classes, importance=importance)
    return by_strength(found, penalties, found.weight)


def lp_plus(episodes: list[Episode]) -> list[list[Candidate]]:
    """LP++'s classifier (Huang et al. 2024): logits x · w_c + a_c · 100 x · t_c, with w and a both learnt.

    Its cross-entropy is minimised to the end, with a penalty on ‖w‖² + (a − 1)² whose strength is tuned, so
    that the strongest one is zero-shot; the original stops block-wise steps of its own size early instead.
    """
    heads = [_text_head(e) for e in episodes]
    features = torch.stack([e.features for e in episodes])
    offsets = torch.stack([head(e.features) for head, e in zip(heads, episodes, strict=True)])
    penalties = torch.stack([penalties_of(x) for x in features])
    labels = torch.stack([e.labels for e in episodes])
    found = fit_softmax(features, labels, penalties, episodes[0].classes, offsets=offsets)
    assert found.blend is not None
    text = torch.stack([head.weight for head in heads])
    # What the text's part gives the mean goes into the bias: queries meet both parts without it.
    at_mean = torch.einsum("gcd,gd->gc", text.double(), found.means)
    bias = found.bias.double() + found.blend.double() * at_mean.unsqueeze(1)
    weight = found.weight + found.blend.unsqueeze(3) * text.unsqueeze(1)
    return by_strength(replace(found, bias=bias), penalties, weight)


def tip_adapter(episodes: list[Episode]) -> list[list[Candidate]]:
    """Tip-Adapter (Zhang et al. 2022): zero-shot logits plus a · Σ_i exp(−b (1 − x · x_i)) y_i, untrained."""
    return [_tip_candidates(e, torch.nn.functional.normalize(e.features, dim=1), 0) for e in episodes]


def tip_adapter_f(episodes: list[Episode]) -> list[list[Candidate]]:
    """Tip-Adapter-F: its keys x_i trained for 20 epochs at a = b = 1, then a and b chosen."""
    found = []
    for episode in episodes:
        keys, steps = _train_keys(episode)
        found.append(_tip_candidates(episode, keys, steps))
    return found


def tip_logits(head: Linear, keys: Tensor, values: Tensor, a: float, b: float, queries: Tensor) -> Tensor:
    """Logits (q, C) of queries (q, D) with keys (n, D) and one-hot values (n, C)."""
    x = torch.nn.functional.normalize(queries, dim=1)
    cached: Tensor = (-b * (1.0 - x @ keys.T)).exp() @ values
    return head(x) + a * cached


def _tip_candidates(episode: Episode, keys: Tensor, steps: int) -> list[Candidate]:
    head = _text_head(episode)
    values = torch.nn.functional.one_hot(episode.labels, episode.classes).float()
    return [
        Candidate(
            {"blend": a, "sharpness": b}, partial(tip_logits, head, keys, values, a, b), steps
        )
        for a, b in product(BLENDS, SHARPNESSES)
    ]  # fmt: skip


def _train_keys(episode: Episode) -> tuple[Tensor, int]:
    """AdamW with a cosine schedule on the cross-entropy of the training rows; the rows' order is seeded."""
    head = _text_head(episode)
    values = torch.nn.functional.one_hot(episode.labels, episode.classes).float()
    keys = torch.nn.functional.normalize(episode.features, dim=1).clone().requires_grad_()
    generator = torch.Generator().manual_seed(episode.seed)
    optimizer = torch.optim.AdamW([keys], lr=KEY_RATE, weight_decay=KEY_DECAY, eps=1e-4)
    batches = KEY_EPOCHS * -(-len(keys) // KEY_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
    for _ in range(KEY_EPOCHS):
        for rows in torch.randperm(len(keys), generator=generator).split(KEY_BATCH):
            logits = tip_logits(head, keys, values, 1.0, 1.0, episode.features[rows])
            loss = torch.nn.functional.cross_entropy(logits, episode.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return keys.detach(), batches
