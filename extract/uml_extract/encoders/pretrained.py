"""What text and audio encoders of transformers share: where a model lies, its configuration, its weights."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from uml_cache import InputError
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.hub import HubModel, hub_model
from uml_extract.encoders.weights import read_weights, weight_files
from uml_extract.spec import EncoderOptions, EncoderSpec


def locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> HubModel:
    """The folder with config and tokenizer (and the weights, unless `--weights` gives them).

    Raises:
        InputError: there is none, or what `--weights` names holds no weights: that is said before anything is
            asked of the hub.
    """
    given = options.weights
    if given is not None:
        weight_files(given)
    if Path(rest).is_absolute():
        return HubModel(Path(rest), None)
    if given is None:
        return hub_model(spec.name, spec.model)
    folder = given if given.is_dir() else given.parent
    if (folder / "config.json").is_file():
        return HubModel(folder, None)
    found = hub_model(spec.name, spec.model, weights=False)
    return HubModel(found.folder, None)


def read_config(name: str, folder: Path) -> Any:
    """The model's configuration; `InputError` if there is none, or one that only foreign code understands."""
    if (folder / "config.json").is_file():
        read_settings(name, folder / "config.json")
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the classes of models raise nearly anything on settings of other types
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"encoder {name}: cannot read the config.json in {folder} ({first})") from None
    return config


def load_model(name: str, config: Any, files: Sequence[Path], dtype: Any) -> torch.nn.Module:
    """The bare model, all its tensors from `files`; `InputError` if they are of another model."""
    state = read_weights(files)
    try:
        with torch.device("meta"):  # only the class is wanted: no memory, no initialisation
            kind = type(transformers.AutoModel.from_config(config, trust_remote_code=False))
        with silence():
            model, report = kind.from_pretrained(
                None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
            )
    except (RuntimeError, ValueError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: weights {files[0]} do not fit the model ({first})") from None
    # A pooler on top of BERT is not used, and checkpoints of language models have none; what wav2vec 2.0 puts
    # in place of masked frames is used in training alone.
    unused = ("pooler", "masked_spec_embed")
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in unused))
    if missing or report["mismatched_keys"]:
        first = missing[0] if missing else str(next(iter(report["mismatched_keys"])))
        raise InputError(
            f"encoder {name}: weights {files[0]} do not fit the model (for example {first} is missing)"
        )
    return model


def depths_of(model: torch.nn.Module, *lists: str) -> list[list[str]]:
    """Names of a model's parameters by depth: those before the layers, then layer by layer.

    `lists` are names that the list of layers goes by. What stands behind the layers belongs to the last one;
    a pooler is left out, since nothing here asks it.
    """
    found: dict[str, torch.nn.ModuleList] = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.ModuleList) and name.rpartition(".")[2] in lists
    }
    place, layers = next(iter(found.items()))
    depths: list[list[str]] = [[] for _ in range(len(layers) + 1)]
    passed = False
    for name, _ in model.named_parameters():
        if "pooler" in name:
            continue
        if name.startswith(f"{place}."):
            passed = True
            depths[int(name[len(place) + 1 :].partition(".")[0]) + 1].append(name)
        else:
            depths[-1 if passed else 0].append(name)
    return depths


def save_beside(model: Any, source: Path, folder: Path) -> None:
    """Write a transformers checkpoint with the other small files of the one that it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in sorted(source.rglob("*")):
        place = folder / part.relative_to(source)
        if part.is_file() and part.suffix in (".json", ".txt", ".model") and "index" not in part.name:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, place)
    with silence():
        model.save_pretrained(folder)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No bars and no report of unused heads on standard error; what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
