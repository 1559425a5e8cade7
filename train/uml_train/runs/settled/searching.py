"""Which search a run makes where that is left to us: heads that are solved, or trained by steps."""

from __future__ import annotations

from dataclasses import replace

from uml_cache import InputError, Output
from uml_train.data.normalize import VALIDATIONS
from uml_train.fullbatch.scaling import validation_of
from uml_train.problem import Problem
from uml_train.protocols.named_grids import AUTO, FAIR, load_grid
from uml_train.settings import SEARCHED, STEPPED, TrainSettings

_SOLVABLE = 30_000_000  # probabilities of one modality, rows × classes, that are held at once


def joint(settings: TrainSettings, problem: Problem) -> bool:
    """Whether the target's encoder shares a space with that of the first auxiliary of a configuration."""
    space = problem.target.joint_space
    firsts = [problem.auxiliaries[labels[0]].joint_space for labels in settings.auxiliaries or ()]
    return settings.aligned != "off" and space is not None and space in firsts


def with_search(settings: TrainSettings, problem: Problem, output: Output) -> TrainSettings:
    """The settings with grid and normalisation chosen, where they are left to us; shots are resolved.

    The grid of a protocol is the one for encoders with a joint space, where they have one.

    Raises:
        InputError: the grid `fair` is asked for where heads cannot be solved, or where they are not a refit,
            a method in closed form or a validated normalisation.
    """
    reason = _not_solved(settings, problem)
    grid = settings.grid
    if grid == settings.protocol and joint(settings, problem):
        grid = f"{grid}-joint"
    if grid == FAIR and reason:
        raise InputError(
            f"--grid fair solves heads on all rows at once, and {reason}; --grid quick trains them"
        )
    if grid == AUTO:
        grid = STEPPED["grid"] if reason else FAIR
        if reason:
            output.say(f"heads are trained by AdamW (--grid {grid}), because {reason}")
    if settings.refit and grid != FAIR:
        raise InputError("--refit is for heads that are solved on all rows at once (--grid fair)")
    normalize = settings.normalize
    if normalize == "auto":
        encoder = problem.target.features.encoder_name
        normalize = validation_of(encoder) if grid == FAIR else STEPPED["normalize"]
    if normalize in VALIDATIONS and grid != FAIR:
        raise InputError(
            f"--normalize {normalize} compares heads that are solved on all rows at once (--grid fair); "
            "name another normalisation"
        )
    methods = settings.methods if grid == FAIR else settings.stepped_methods()
    return with_texts(replace(settings, grid=grid, normalize=normalize, methods=methods))


def with_texts(settings: TrainSettings, family: str = "") -> TrainSettings:
    """The settings with all texts in place of those of a grid that lists none."""
    if settings.texts != SEARCHED:
        return settings
    grid = load_grid(settings.grid, texts=SEARCHED, family=family)
    listed = any(candidate.texts is not None for candidate in grid.candidates)
    return settings if listed else replace(settings, texts="all")


def _not_solved(settings: TrainSettings, problem: Problem) -> str | None:
    """Why heads cannot be solved on all rows at once; None where they can."""
    for option, usual in (("trunk", "linear"), ("sampling", "shuffled"), ("precision", "float32")):
        value = getattr(settings, option)
        if value != usual:
            return f"--{option} {value} needs steps on batches"
    if settings.device == "cuda":
        return "they are solved on the CPU, not on CUDA"
    if settings.loader == "stream":
        return "streamed rows are never together"
    classes = len(problem.classes)
    rows = max(len(problem.train) if k == "all" else k * classes for k in settings.shots or ())
    rows = max([rows, *(len(source.rows) for source in problem.auxiliaries.values())])
    return None if rows * classes <= _SOLVABLE else f"{rows:,} rows of {classes:,} classes are too many"
