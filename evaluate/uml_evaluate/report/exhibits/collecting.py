"""All that a report shows of one comparison beside its numbers, as far as it can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uml_cache import InputError, WorkError
from uml_evaluate.comparing.shown.figures import Drawn, save
from uml_evaluate.comparing.shown.headline import main_pair
from uml_evaluate.comparing.shown.tables import shots_name
from uml_evaluate.report.exhibits.by_class import MOST_CLASSES, ClassSamples, by_class
from uml_evaluate.report.exhibits.mistakes import Group, confusion_figure, groups
from uml_evaluate.report.exhibits.samples import Samples

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison
    from uml_evaluate.comparing.rows import Arm
    from uml_evaluate.report.exhibits.spaces import Neighbours
    from uml_train import Run, Shots


@dataclass
class Exhibits:
    """What the page folds in below a comparison. `left_out` says in one line what it cannot show."""

    where: str
    roles: list[str] = field(default_factory=list)
    classes: list[ClassSamples] = field(default_factory=list)
    more_classes: int = 0
    groups: list[Group] = field(default_factory=list)
    confusion: Drawn | None = None
    map: Drawn | None = None
    map_caption: str = ""
    neighbours: list[Neighbours] = field(default_factory=list)
    left_out: str = ""

    @property
    def files(self) -> list[Path]:
        """The drawings beside the page."""
        return [file for drawn in (self.confusion, self.map) if drawn is not None for file in drawn.files]


def collect(
    run: Run, comparison: Comparison, samples: Samples, folder: Path, name: str, kind: str
) -> Exhibits:
    """Everything that can be shown of a comparison at its largest number of shots.

    Args:
        folder: of the drawings, which are called after `name`.
        kind: how the map is made, see `MAPS`.

    Raises:
        InputError: a map was asked for whose package is not here.
    """
    shots = comparison.shots[-1]
    found = Exhibits(where=shots_name(shots))
    pair = main_pair(comparison)
    found.roles, found.classes = by_class(run, comparison, samples)
    found.more_classes = max(0, len(run.config["classes"]) - MOST_CLASSES) if found.classes else 0
    if pair is not None and all(comparison.results(arm, shots) for arm in pair):
        _add_mistakes(found, run, comparison, pair, shots, samples, folder, name)
    said = [f"{role} samples are not shown ({why})" for role, why in samples.missing.items()]
    if why := _add_spaces(found, run, comparison, samples, shots, folder, name, kind):
        said.append(f"no map and no neighbours ({why})")
    found.left_out = f"Left out: {'; '.join(said)}." if said else ""
    return found


def _add_mistakes(
    found: Exhibits,
    run: Run,
    comparison: Comparison,
    pair: tuple[Arm, Arm],
    shots: Shots,
    samples: Samples,
    folder: Path,
    name: str,
) -> None:
    if samples.test_rows is not None:
        found.groups = groups(run, comparison, pair, shots, samples)
    figure = confusion_figure(run, comparison, pair, shots)
    if figure is not None:
        what = f"{comparison.title}: confusion matrices without and with unpaired data"
        found.confusion = save(figure, folder, f"{name}-confusion", what)


def _add_spaces(
    found: Exhibits,
    run: Run,
    comparison: Comparison,
    samples: Samples,
    shots: Shots,
    folder: Path,
    name: str,
    kind: str,
) -> str:
    """The map and the neighbours; or why there are none."""
    from uml_evaluate.analyses.reading import Reading
    from uml_evaluate.report.exhibits.maps import MAP_NAMES
    from uml_evaluate.report.exhibits.spaces import map_figure, neighbours

    if comparison.on_sequences or "finetune" in run.config:
        return "whole networks were trained, not heads on features"
    if "shift" in run.config:
        return "these are the rows of another data set"
    try:
        reading = Reading(run, auxiliaries=comparison.auxiliaries or None)
        _ = reading.test
    except (InputError, WorkError) as error:
        return str(error)
    figure, shared = map_figure(reading, kind, shots)
    what = f"{comparison.title}: a map of the features"
    found.map = save(figure, folder, f"{name}-map", what)
    found.map_caption = (
        f"Each point is a sample, each colour a class; points that lie close have similar features. The "
        f"map is made by {MAP_NAMES[kind]}, of features less their mean at unit length."
        + (
            " In the last panel every modality lies in the space that the head reads: where the unpaired "
            "data fits, samples of one class lie together, whatever their modality."
            if shared
            else ""
        )
    )
    try:
        found.neighbours = neighbours(reading, samples, shots)
    except (InputError, WorkError) as error:
        return f"no neighbours: {error}"
    return ""
