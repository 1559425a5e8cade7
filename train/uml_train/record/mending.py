"""Making a run whole before it is trained: what is damaged or half there is taken out and made anew."""

from __future__ import annotations

from collections.abc import Collection

from uml_cache import Output, sync_folder
from uml_train.run import Cell, Run


def mend(run: Run, wanted: Collection[Cell], output: Output, *, thorough: bool) -> None:
    """Take out the records of cells that are not whole, so that these count as unfinished. Under the lock.

    Args:
        wanted: the cells that are trained next, for what is said of the others.
        thorough: whether every file is compared with its checksum. Without it a damaged cell is an error, for
            its reader did not ask for it to be trained.

    Raises:
        DamagedFile: a damaged cell, where `thorough` is not asked for.
    """
    found = run.inspect(thorough=thorough)
    if not thorough:
        for error in found.damaged.values():
            raise error
    _forget_checkpoints(run, {result.name for result in found.whole})
    names = {cell.key for cell in wanted}
    for record, error in (found.gone | found.damaged).items():
        then = (
            "its cell is trained again"
            if record.stem in names
            else "its cell is taken out; `uml eval` adds it"
        )
        output.say(f"{error.path} {error.why}: {then}")
        record.unlink()
    if found.gone or found.damaged:
        sync_folder(run.path / "cells")


def _forget_checkpoints(run: Run, finished: Collection[str]) -> None:
    """Delete the checkpoints of what is finished: whoever was to do so may have been killed."""
    for file in (run.path / "checkpoints").glob("*.pt"):
        cell = file.stem.rpartition(".")[0]  # `CELL.0.pt`; of a network that cells share `NETWORK.pt`
        if cell in finished or (run.path / "models" / f"{file.stem}.safetensors").exists():
            file.unlink()
