"""From settings as typed to settings with every default resolved, over stores that are open."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from uml_cache import InputError, Output
from uml_train.data.selection import Role, Selection, select_unrelated
from uml_train.problem import Problem
from uml_train.runs.drawn import draw_rows
from uml_train.settings import (
    AUTO,
    DEFAULT_SHOTS,
    SELF_TRAINING,
    UNRELATED,
    WITH_AUXILIARIES,
    Shots,
    TrainSettings,
)


def unrelated_roles(
    settings: TrainSettings, selection: Selection, *, only_tokens: bool = False
) -> list[Role]:
    """The stores of the controls `unrelated:NAME`, one for each auxiliary.

    Raises:
        InputError: the cache lacks one.
    """
    names = [c.removeprefix(UNRELATED) for c in settings.controls if c.startswith(UNRELATED)]
    return [
        role
        for name in names
        for role in select_unrelated(settings.cache, name, selection, only_tokens=only_tokens)
    ]


def resolve(settings: TrainSettings, selection: Selection, problem: Problem, output: Output) -> TrainSettings:
    """The settings with every default replaced by what it came to.

    Raises:
        InputError: methods that need another modality, where there is none; draws larger than the data.
    """
    methods, controls = settings.methods, settings.controls
    if not selection.configurations:
        controls = ()
        methods = tuple(m for m in methods if m not in (*WITH_AUXILIARIES, AUTO))
        if not methods:
            raise InputError(
                f"{', '.join(settings.methods)} need another modality, and the cache holds only "
                f"{selection.target.label} of {selection.dataset}; add one with {_extract_hint(selection)}"
            )
        output.say(
            f"{settings.cache} holds only {selection.target.label} of {selection.dataset}: training the "
            f"unimodal methods; {_extract_hint(selection)} would add another modality"
        )
    if len(problem.unlabelled) and SELF_TRAINING not in methods and settings.way == "train":
        output.say(
            f"{len(problem.unlabelled):,} rows of {problem.target.label} have no label; --method "
            f"{','.join(methods)},{SELF_TRAINING} would learn from them, too"
        )
    shots = settings.shots or _possible_shots(problem, settings.seeds[0], output)
    return with_defaults(replace(settings, methods=methods, controls=controls), selection, problem, shots)


def _possible_shots(problem: Problem, seed: int, output: Output) -> tuple[Shots, ...]:
    possible: list[Shots] = []
    for k in DEFAULT_SHOTS:
        try:
            draw_rows(problem, k, seed)
        except InputError as error:
            output.say(f"shots {k} and more are left out: {error}")
            break
        possible.append(k)
    return tuple(possible) or ("all",)


def with_defaults(
    settings: TrainSettings, selection: Selection, problem: Problem, shots: tuple[Shots, ...]
) -> TrainSettings:
    """The settings with the stores' labels, `shots` and absolute paths, once the first draws are possible.

    Raises:
        InputError: the trunk needs tokens that a store lacks, or the rows do not suffice for a draw.
    """
    for wanted in shots:
        draw = draw_rows(problem, wanted, settings.seeds[0])
        spare = len(problem.train) - len(draw.train) + len(problem.unlabelled)
        if SELF_TRAINING in settings.methods and not spare:
            raise InputError(
                f"self-training learns from rows of {problem.target.label} without labels, and with --shots "
                f"{wanted} there are none: leave it out, or take fewer shots or a store with rows that have "
                "no label"
            )
    return replace(
        settings,
        dataset=selection.dataset,
        target=selection.target.label,
        auxiliaries=tuple(tuple(role.label for role in roles) for roles in selection.configurations),
        shots=shots,
        cache=Path(os.path.abspath(settings.cache)),
        class_map=settings.class_map and Path(os.path.abspath(settings.class_map)),
        splits=settings.splits and Path(os.path.abspath(settings.splits)),
        out=Path(os.path.abspath(settings.out)),
    )


def check_tokens(selection: Selection, output: Output) -> None:
    """Raise `InputError` where the target has no tokens; say which auxiliaries have none."""
    for role in (selection.target, *selection.auxiliaries):
        if role.store.token_dim is not None:
            continue
        add = f"`uml extract --encoder {role.store.encoder_name} --tokens`, with the data it was made from,"
        if role is selection.target:
            raise InputError(
                f"--trunk transformer needs tokens, and {role.store.path} has none; {add} adds them"
            )
        output.say(f"{role.label} has no tokens, so each of its samples is one vector; {add} would add them")


def _extract_hint(selection: Selection) -> str:
    other = "text" if selection.target.store.modality != "text" else "image"
    encoder = "hashed-ngrams" if other == "text" else "hog-color"
    return f"`uml extract --encoder {encoder} --data YOUR_{other.upper()}S --name {selection.dataset}`"
