"""What text and audio encoders of transformers share: where a model lies, its configuration, its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from uml_cache.errors import InputError
from uml_extract.hub import HubModel, hub_model
from uml_extract.spec import EncoderOptions, EncoderSpec
from uml_extract.weights import read_weights


def locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> HubModel:
    """The folder with config and tokenizer (and the weights, unless `--weights` gives them)."""
    given = options.weights
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
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0][:200]
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
