"""`fine_tune`: from settings to a finished run folder.

The folder is that of any run (`uml_train.run`), with `checkpoints/` while it is at work and
`backbones/<cell>/`, the selected networks as folders that `uml extract --encoder` takes.
"""

from __future__ import annotations

from contextlib import ExitStack

from uml_cache import QUIET, Output
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.tuning_session import open_samples
from uml_train.problem import LeftOut
from uml_train.run import Run
from uml_train.runs.ranks import Ranks
from uml_train.runs.session import train_session
from uml_train.settings import TrainSettings


def fine_tune(
    settings: TrainSettings,
    tuning: FinetuneSettings,
    *,
    left_out: list[LeftOut] | None = None,
    output: Output = QUIET,
) -> Run:
    """Train a network per cell of the settings and return the finished run.

    Args:
        settings: cells, search and seeds, as of `uml_train.train`; the cache holds the auxiliaries' features.
        tuning: the target's network and samples.
        left_out: takes the rows that are not used.

    Raises:
        InputError: settings that do not go together, data or weights that are missing, classes that do not
            meet, draws larger than the data.
        WorkError: a sample cannot be read any more, or a store is changed meanwhile.
    """
    tuning.check_with(settings)
    settings = settings.stepped()
    ranks = Ranks.of_environment()
    with ExitStack() as stack:
        session = open_samples(settings, tuning, ranks, output if ranks.first else QUIET, stack)
        return train_session(session, left_out)
