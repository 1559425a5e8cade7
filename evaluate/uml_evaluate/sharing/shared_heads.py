"""The kind `head`: one safetensors file, which says which encoder its features come from.

`uml predict`, `uml.load` and `load_head` open it, here and where it is pulled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uml_cache import QUIET, Accepted, Kind, Output, Thing, WorkError, digested
from uml_evaluate.predict.predictor import ABOUT, Predictor, features_of, open_predictor
from uml_evaluate.sharing.record_cards import head_card
from uml_train import Run, find_runs, head_with, load_head, plain_name

_FILE = "model.safetensors"  # where the hub looks for weights


def shared_head(
    place: Path, licence: str | None, *, cache: Path | None = None, output: Output = QUIET
) -> Thing:
    """A head that is going to be pushed.

    Args:
        place: a file that `Model.save` wrote, a head of a run (`RUN/heads/*.safetensors`), or a run: then
            the head that `uml predict` takes.
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: there is no such head, or where its features come from is not known.
    """
    path = place if place.is_file() else open_predictor(place, cache=cache, output=output)[0].path
    run = _run_of(path)
    data = path.read_bytes()
    if run is not None and ABOUT not in load_head(path).about:
        data = head_with(path, {ABOUT: features_of(run, cache).to_json(), "run": run.digest})
    else:
        Predictor(load_head(path), path)  # it says where its features come from
    name = plain_name(path.stem if run is None else f"{run.path.resolve().name}-{path.stem}")[:200]
    content = digested(data)
    about = load_head(path).about | {ABOUT: _told(data, path)}
    return Thing(
        kind=HEAD,
        about={"fingerprint": content.sha256, "name": name},
        files={_FILE: content},
        card=lambda where, digest: head_card(
            about, load_head(path).classes, run, name, licence, where, digest
        ),
    )


def _told(data: bytes, path: Path) -> Any:
    """What the bytes of a head say of its features."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(data)
        return load_head(copy).about[ABOUT]


def _run_of(path: Path) -> Run | None:
    """The run in whose folder a head lies."""
    folder = path.resolve().parent
    if folder.name not in ("heads", "predict") or not (folder.parent / "config.json").is_file():
        return None
    return find_runs(folder.parent)[0]


def _accept(draft: Path, content: Mapping[str, Any]) -> Accepted:
    path = draft / _FILE
    Predictor(load_head(path), path)
    if _sum(path) != content["fingerprint"]:
        raise WorkError("it is another head than the list says")
    return Accepted(path, Path(f"{content['name']}.safetensors"))


def _same(there: Path, content: Mapping[str, Any]) -> bool:
    return there.is_file() and _sum(there) == content["fingerprint"]


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


HEAD = Kind(
    name="head",
    folder="",
    names=re.compile(re.escape(_FILE)),
    hub="model",
    out="heads",
    accept=_accept,
    same=_same,
)
