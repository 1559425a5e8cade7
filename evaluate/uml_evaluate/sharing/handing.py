"""`uml push` and `uml pull`: stores, runs and heads, told apart by what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from uml_cache import (
    QUIET,
    STORE,
    InputError,
    Output,
    Shared,
    as_path,
    is_remote,
    pull_thing,
    push_store,
    push_thing,
)
from uml_evaluate.sharing.shared_heads import HEAD, shared_head
from uml_evaluate.sharing.shared_runs import RUN, shared_run

KINDS = {kind.name: kind for kind in (STORE, RUN, HEAD)}


def push(
    what: Path | str,
    place: Path | str,
    *,
    head: bool = False,
    licence: str | None = None,
    cache: Path | None = None,
    progress: Callable[[int], Any] = lambda _: None,
    output: Output = QUIET,
) -> Shared:
    """Hand on a store, a run or a head: copy it to `place`, with a card and checksums.

    Args:
        what: a store or a run (folders), or the file of a head.
        place: a new folder, a prefix of a bucket (`s3://…`), or a repository of the hub: `hf://ORG/NAME` for
            heads, `hf://datasets/ORG/NAME` for stores and runs.
        head: of a run, hand on the head alone that `uml predict` takes.
        licence: of what is handed on, an SPDX name, for the card.
        cache: with a head of a run, where its stores are now if they have moved.
        progress: is called with the number of files done since its last call.

    Raises:
        InputError: `what` is none of these or is not finished, or something else is at `place`.
        WorkError: it is damaged, or the place failed.
    """
    path = as_path(what)
    if is_remote(path) or (path / "zarr.json").is_file():
        if head:
            raise InputError(f"{what} is a store: --head takes a head of a run")
        return push_store(path, place, licence=licence, progress=progress)
    if path.is_file() or head:
        thing = shared_head(path, licence, cache=cache, output=output)
    elif (path / "config.json").is_file():
        thing = shared_run(path, licence)
    else:
        state = "is none of these" if path.exists() else "does not exist"
        raise InputError(f"{what} {state}: expected a store (….zarr), a run (RUNS/…) or a head's file")
    return push_thing(thing, place, progress=progress)


def pull(
    place: Path | str,
    out: Path | str | None = None,
    *,
    digest: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> Shared:
    """Take what was pushed to `place` into the folder `out`; None: `feats`, `runs` or `heads`, by its kind.

    All of it appears at once, checked, or nothing does. `digest` is what the push answered: with it anything
    else is refused.

    Raises:
        InputError: nothing was pushed to `place`, or something else is where it would go.
        WorkError: what is there is not what was pushed.
    """
    return pull_thing(place, KINDS, out, digest=digest, progress=progress)
