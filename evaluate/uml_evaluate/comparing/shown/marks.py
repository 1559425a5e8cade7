"""What a table of accuracies points out: the best of a column, and what is beyond chance.

Beyond chance is said of a method against its own step of the ladder (`ridge` and `unimodal-deep` against
`unimodal`, `self-training`, `prior` and their controls against `ridge`, `init-only`, `uml` and its controls
against `unimodal-deep`, `uml-init` against `init-only`), and only where that difference's interval excludes
0. Nothing is compared with whatever happened to be best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_evaluate.comparing.rows import FROM_RIDGE, Arm, arm_name
from uml_evaluate.comparing.shown.tables import value_text
from uml_evaluate.comparing.verdict import HELPS, HURTS

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison
    from uml_train import Shots

_STEP_FROM = {
    "ridge": "unimodal",
    "self-training": "ridge",
    "prior": "ridge",
    "unimodal-deep": "unimodal",
    "uml-init": "init-only",
    "auto": "unimodal",
}
MARKS = (
    "Bold: the largest mean of its column, controls aside. *: the 95 % interval of the difference to its own "
    "step of the ladder excludes 0 (ridge and unimodal-deep to unimodal; self-training, prior "
    "and their controls to ridge; "
    "init-only, uml and its controls to unimodal-deep; uml-init to init-only)."
)


def is_best(comparison: Comparison, arm: Arm, shots: Shots) -> bool:
    """Whether a method has the largest mean accuracy at some shots, of those that are no controls."""
    rows = {row.arm: row for row in comparison.rows if row.shots == shots and row.control is None}
    return arm in rows and round(rows[arm].mean, 1) == round(max(row.mean for row in rows.values()), 1)


def is_beyond_chance(comparison: Comparison, arm: Arm, shots: Shots) -> bool:
    """Whether a method differs from its step of the ladder by an interval that excludes 0."""
    step = _STEP_FROM.get(arm[0], "unimodal-deep")
    against = "unimodal-deep" if arm[1] is not None and arm[0] not in FROM_RIDGE else step
    return any(
        d.interval.verdict in (HELPS, HURTS)
        for d in comparison.differences
        if (d.a, d.b, d.shots) == (arm_name(arm), against, shots)
    )


def marked(comparison: Comparison, arm: Arm, shots: Shots) -> tuple[str, bool]:
    """The text of a cell such as `56.2 ± 1.3 *`, and whether it is the best of its column."""
    text = value_text(comparison, arm, shots)
    star = " *" if is_beyond_chance(comparison, arm, shots) else ""
    return text + star, is_best(comparison, arm, shots)
