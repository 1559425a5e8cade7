"""From a recipe to its parts: runs, and the features and samples that each of them needs.

Variants of a data set that differ in their auxiliaries alone are one run with several configurations, so that
what does not depend on them is trained once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from uml_cache import InputError
from uml_evaluate.reproduce.recipe.recipe import Recipe, Setting
from uml_train import DEFAULT_SHOTS, UNRELATED, Shots


@dataclass(frozen=True, kw_only=True)
class Need:
    """Features of one place (`modality[.set]`) of a data set from one encoder; no encoder: the samples."""

    dataset: str
    place: str
    encoder: str | None
    transform: str = "own"
    tokens: bool = False

    @property
    def modality(self) -> str:
        """The modality that is needed."""
        return self.place.partition(".")[0]

    @property
    def set(self) -> str | None:
        """The set of samples that is needed, such as `cupl`; None for the only one."""
        return self.place.partition(".")[2] or None

    def text(self) -> str:
        """Such as `sun397 text.cupl by open_llama_3b`."""
        how = f" by {self.encoder}" if self.encoder else ""
        return f"{self.dataset} {self.place}{how}{', tokens' if self.tokens else ''}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run. `configurations` are the auxiliaries that it trains with, `variants` their names.

    `fold` is 0 where the target's own splits count; `shots` and `texts` None take the recipe's.
    """

    dataset: str
    setting: Setting
    variants: tuple[str, ...]
    configurations: tuple[tuple[Need, ...], ...]
    target: Need
    shots: tuple[Shots, ...] | None = None
    fold: int = 0
    texts: int | None = None

    @property
    def name(self) -> str:
        """What tells it from the other parts, for a person."""
        parts = [self.dataset, ", ".join(filter(None, self.variants))]
        if self.fold:
            parts.append(f"fold {self.fold}")
        if self.shots is not None:
            parts.append(f"k = {', '.join(map(str, self.shots))}")
        return ", ".join(filter(None, parts))

    @property
    def unrelated(self) -> list[Need]:
        """What the controls `unrelated:NAME` take instead of the auxiliaries."""
        names = [c.removeprefix(UNRELATED) for c in self.setting.train.get("controls", ())
                 if c.startswith(UNRELATED)]  # fmt: skip
        auxiliaries = dict.fromkeys(need for needs in self.configurations for need in needs)
        return [replace(need, dataset=name) for name in names for need in auxiliaries]

    @property
    def needs(self) -> list[Need]:
        """Everything that it reads, each once, the target first."""
        inner = (need for needs in self.configurations for need in needs)
        return list(dict.fromkeys([self.target, *inner, *self.unrelated]))


def parts_of(recipe: Recipe, datasets: Iterable[str] | None = None) -> list[Part]:
    """The parts of a recipe, those of one data set together; `datasets` leaves out the others.

    Raises:
        InputError: two variants that are the same.
    """
    wanted = None if datasets is None else set(datasets)
    found: dict[Any, Part] = {}
    for name, setting in recipe.variants.items():
        for dataset in setting.datasets:
            if wanted is None or dataset in wanted:
                for part in _expanded(recipe, name, setting, dataset):
                    key = _key(part)
                    if key in found:
                        found[key] = _joined(recipe, found[key], part)
                    else:
                        found[key] = part
    order = {dataset: i for i, dataset in enumerate(recipe.datasets)}
    return sorted(found.values(), key=lambda part: order[part.dataset])


def shots_of(setting: Setting) -> tuple[Shots, ...]:
    """The shots that a setting names."""
    return tuple(setting.train.get("shots", DEFAULT_SHOTS))


def _expanded(recipe: Recipe, name: str, setting: Setting, dataset: str) -> list[Part]:
    tuned = (setting.finetune or {}).get("tune_aux")
    tokens = recipe.kind == "ssl" or setting.train.get("trunk") == "transformer"

    def need(place: str, encoder: str | None) -> Need:
        transformed = place.partition(".")[0] in ("image", "audio")
        return Need(
            dataset=dataset,
            place=place,
            encoder=encoder,
            transform=setting.transform if transformed and encoder else "own",
            tokens=tokens and encoder is not None,
        )

    target = need(setting.target, None if recipe.kind == "finetune" else setting.encoder_of(setting.target))
    auxiliaries = tuple(need(p, None if tuned else setting.encoder_of(p)) for p in setting.auxiliaries)
    whole = Part(
        dataset=dataset, setting=setting, variants=(name,), configurations=(auxiliaries,), target=target
    )
    texts = setting.train.get("texts")
    if not setting.folds and not setting.texts_per_shot:
        return [whole]
    return [
        replace(
            whole,
            shots=(k,),
            fold=fold,
            texts=k * int(texts) if texts and setting.texts_per_shot and k != "all" else None,
        )
        for k in shots_of(setting)
        for fold in range(1, setting.folds + 1) or (0,)
    ]


def _key(part: Part) -> str:
    """What two variants must share to be one run: everything but their auxiliaries."""
    setting = replace(part.setting, auxiliaries=(), encoders={}, datasets=())
    tuned = part.configurations if (part.setting.finetune or {}).get("tune_aux") else ""
    alone = part.variants if not part.configurations[0] else ""
    same = [vars(setting), part.dataset, part.target, part.shots, part.fold, part.texts, tuned, alone]
    return json.dumps(same, default=str, sort_keys=True)


def _joined(recipe: Recipe, one: Part, other: Part) -> Part:
    if other.configurations[0] in one.configurations:
        raise InputError(f"{recipe.name}: variant {other.variants[0]} is the same as {one.variants[0]}")
    return replace(
        one,
        variants=one.variants + other.variants,
        configurations=one.configurations + other.configurations,
    )
