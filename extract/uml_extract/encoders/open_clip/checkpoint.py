"""Where an open_clip model's configuration and weights lie, and the model made of them."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from uml_cache import InputError, unknown
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.hub import hub_model
from uml_extract.encoders.open_clip import WEIGHT_NAMES
from uml_extract.encoders.weights import weight_files
from uml_extract.spec import EncoderOptions, EncoderSpec, Tuning

CONFIG = "open_clip_config.json"
_HUB = "hf-hub:"


@dataclass(frozen=True)
class Found:
    """An open_clip model: its two configurations, where the weights and (maybe) a tokenizer lie."""

    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    folder: Path | None
    revision: str | None


def locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Found:
    """What `rest` means: `ARCH/TAG`, `hf-hub:ORG/NAME` or an absolute folder; `--weights` come first.

    Raises:
        InputError: there is no such model, or it names no weights.
    """
    given = None if options.weights is None else _only_weights(options.weights)
    if Path(rest).is_absolute():
        model, preprocess = _read_config(spec.name, Path(rest))
        return Found(model, preprocess, given or _only_weights(Path(rest)), Path(rest), None)
    if rest.startswith(_HUB):
        found = hub_model(
            spec.name, rest[len(_HUB) :], weights=given is None, config=CONFIG, names=WEIGHT_NAMES
        )
        model, preprocess = _read_config(spec.name, found.folder)
        weights = given or found.weights
        assert weights is not None
        return Found(model, preprocess, weights, found.folder, found.revision if given is None else None)
    architecture, _, tag = spec.model.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise unknown("open_clip model", architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag not in tags:
        raise unknown(f"weights of open_clip's {architecture}", tag, tags)
    pretrained = get_pretrained_cfg(architecture, tag) if tag else {}
    if pretrained.get("quick_gelu"):  # the activation the weights were trained with, whatever ARCH says
        config["quick_gelu"] = True
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), pretrained)
    if given is not None:
        return Found(config, preprocess, given, given.parent, None)
    repository, _, file = pretrained.get("hf_hub", "").rpartition("/")
    if not repository:
        known = f"open_clip:{architecture}/TAG with TAG one of {', '.join(tags)}" if tags else "another model"
        raise InputError(
            f"encoder {spec.name} names no weights: write {known}, or give them with `--weights PATH`"
        )
    names = (file,) if file else WEIGHT_NAMES
    found = hub_model(spec.name, repository, config=None, names=names)
    assert found.weights is not None
    return Found(config, preprocess, found.weights, found.folder, found.revision)


def _only_weights(path: Path) -> Path:
    """The one weight file at `path`, a file or a folder; open_clip's own file names first."""
    named = [path / name for name in WEIGHT_NAMES if (path / name).is_file()]
    return weight_files(named[0] if named else path)[0]


def _read_config(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content = read_settings(name, folder / CONFIG)
    try:
        model = dict(content["model_cfg"])
        dict(model["vision_cfg"]), dict(model["text_cfg"])
        preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), content.get("preprocess_cfg", {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"encoder {name}: {folder / CONFIG} describes no open_clip model") from None
    return model, preprocess


def resized(name: str, found: Found, tuning: Tuning) -> Found:
    """The model for pictures of another size. Raises `InputError` for a tower whose size is fixed."""
    if tuning.patch_size:
        raise InputError(f"encoder {name} keeps its patches; leave --patch-size out")
    if not tuning.img_size:
        return found
    vision = found.model["vision_cfg"]
    if "timm_model_name" in vision or isinstance(vision["layers"], list):
        raise InputError(f"encoder {name} takes pictures of one size; leave --img-size out")
    model = {**found.model, "vision_cfg": {**vision, "image_size": tuning.img_size}}
    return replace(found, model=model)


def build(name: str, config: dict[str, Any]) -> Any:
    """The model with random weights. Nothing is fetched for it: text towers of transformers are refused."""
    config = deepcopy(config)
    if "hf_model_name" in config["text_cfg"]:
        raise InputError(
            f"encoder {name}: its text tower is {config['text_cfg']['hf_model_name']} of transformers, which "
            "is not supported inside an open_clip model"
        )
    custom = config.pop("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in config:
        kind = open_clip.CoCa
    try:
        return kind(**config)
    except Exception as error:  # configurations of the hub may hold anything
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: its configuration does not make a model ({first})") from None


def fill(name: str, model: Any, weights: Path) -> None:
    """Every tensor from the file, converted as open_clip does; tensors only, no code.

    Raises:
        InputError: the weights do not fit the model.
    """
    try:
        with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
            warnings.simplefilter("ignore")  # of other pickle protocols
            open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on broken bytes
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: weights {weights} do not fit the model ({first})") from None
