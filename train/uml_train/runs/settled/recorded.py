"""What a run's configuration says of its heads and of its search. Neither torch nor the stores are needed."""

from __future__ import annotations

from uml_cache import InputError
from uml_train.protocols.grid import Candidate, Grid, Point, Schedule
from uml_train.run import Run
from uml_train.settings import TRANSFORMER


def require_heads(run: Run, *, pooled: bool = False) -> None:
    """Refuse a run whose models are no heads on features, and say what to do instead.

    Args:
        pooled: whether heads that take tokens are refused, too.

    Raises:
        InputError: such a run.
    """
    config = run.config
    if "shift" in config:
        raise InputError(
            f"{run.path} holds scores of heads on other data; take the run {config['shift']['of']} instead"
        )
    if "finetune" in config:
        raise InputError(
            f"{run.path} was trained on samples, not on features; `uml extract --encoder` with a folder of "
            "its backbones makes features"
        )
    if run.settings.objective != "supervised":
        raise InputError(
            f"{run.path} (objective {run.settings.objective}) holds networks on sequences and no heads; `uml "
            f"embed {run.path}` makes features of them, which `uml train` and the probes take"
        )
    if pooled and run.settings.trunk == TRANSFORMER:
        raise InputError(
            f"{run.path} has the transformer trunk, whose heads take tokens; give a run with heads of pooled "
            "features (--trunk linear or mlp)"
        )


def run_grid(run: Run) -> Grid:
    """The grid as it was when the run began, whatever its file says now."""
    values = run.config["grid"]
    return Grid(
        name=values["name"],
        candidates=tuple(Candidate(**c) for c in values["candidates"]),
        schedule=Schedule(**values["schedule"]),
        points=tuple(Point(**p) for p in values.get("points", ())),
    )
