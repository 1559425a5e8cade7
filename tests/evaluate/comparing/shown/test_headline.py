"""One plain sentence on a comparison, whichever way its numbers fall, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uml_evaluate import Comparison, compare, ground, headline
from uml_evaluate.comparing.shown.headline import key_arms, main_pair
from uml_train import load_run

WriteRun = Callable[..., Path]


def comparison_of(path: Path) -> Comparison:
    (found,) = compare(load_run(path))
    return found


@pytest.mark.parametrize(
    ("share", "seeds", "said"),
    [
        (
            0.60,
            3,
            "toy: unpaired texts raised the accuracy on pictures by 10.0 points, from 50.0 % to 60.0 %.",
        ),
        (
            0.40,
            3,
            "toy: unpaired texts lowered the accuracy on pictures by 10.0 points, from 50.0 % to 40.0 %.",
        ),
        (
            0.50,
            3,
            "toy: unpaired texts made no difference to the accuracy on pictures: 50.0 % without them and "
            "50.0 % with them.",
        ),
        (
            0.60,
            1,
            "toy: unpaired texts raised the accuracy on pictures from 50.0 % to 60.0 %; too few draws to "
            "rule out chance.",
        ),
    ],
)
def test_whichever_way_it_falls(write_run: WriteRun, share: float, seeds: int, said: str) -> None:
    accuracy = {("unimodal-deep", None): 0.5, ("uml", None): share, ("uml", "permuted"): 0.45}
    path = write_run(accuracy=accuracy, seeds=range(1, seeds + 1))
    assert headline(comparison_of(path)) == said
    assert len(said.split()) <= 25


def test_what_cannot_be_told_is_not_said(write_run: WriteRun) -> None:
    """Three draws that disagree: the words must not lean either way."""
    path = write_run(accuracy={("unimodal-deep", None): 0.5, ("uml", None): 0.505})
    found = headline(comparison_of(path))
    assert found == (
        "toy: 3 draws cannot tell whether unpaired texts raise the accuracy on pictures: 50.0 % without them "
        "and 50.5 % with them."
    )


def test_it_rests_on_interval_control_chance_labels_and_draws(write_run: WriteRun) -> None:
    accuracy = {("unimodal-deep", None): 0.5, ("uml", None): 0.6, ("uml", "permuted"): 0.45}
    found = ground(comparison_of(write_run(accuracy=accuracy)))
    assert found.startswith("+10.0 points, 95 % interval +")
    assert (
        "; −5.0 with their classes swapped; chance is 25.0 %; 1 and 4 labelled samples per class, 3 draws."
        in found
    )


def test_nothing_is_said_where_nothing_was_compared(write_run: WriteRun) -> None:
    found = comparison_of(write_run(accuracy={("unimodal", None): 0.4}, configurations=[]))
    assert main_pair(found) is None
    assert headline(found) == "toy: image: nothing was trained both with and without unpaired data."
    assert ground(found) == "Chance is 25.0 %."
    assert [name for name, _ in key_arms(found)] == ["unimodal"]


def test_the_pair_is_not_chosen_by_its_numbers(write_run: WriteRun) -> None:
    """`prior` gains more here, and `uml` is spoken of all the same."""
    accuracy = {
        ("unimodal-deep", None): 0.5, ("uml", None): 0.4, ("ridge", None): 0.5, ("prior", None): 0.9,
    }  # fmt: skip
    found = comparison_of(write_run(accuracy=accuracy))
    assert main_pair(found) == (("uml", None), ("unimodal-deep", None))
