"""What a sentence-transformers checkpoint says beside its model: pooling, longest text, prompt, unit norm.

Such a checkpoint is a transformers folder with a list of modules (`modules.json`): the transformer, a
pooling, and possibly a normalisation. Other modules (dense layers) are refused, since leaving them out in
silence would give other embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uml_cache import InputError, parse_json

_POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """`pooling` None where the checkpoint says nothing; `longest` in tokens; `prompt` goes before a text."""

    pooling: str | None = None
    longest: int | None = None
    prompt: str = ""
    lower: bool = False
    unit: bool = False


PLAIN = Sentence()


def read_sentence(name: str, folder: Path, asked: str | None) -> Sentence:
    """The settings in a model's folder, or `PLAIN`; `asked` is the pooling that a user chose, if any.

    Raises `InputError` for modules or poolings that are not supported.
    """
    if not (folder / "modules.json").is_file():
        return PLAIN
    pooling, unit = None, False
    modules = _read(name, folder / "modules.json", list)
    if not all(isinstance(module, dict) for module in modules):
        raise InputError(f"encoder {name}: {folder / 'modules.json'} is no list of modules")
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        part = folder / Path(str(module.get("path", ""))).name
        if kind == "Pooling":
            pooling = _pooling(name, _read(name, part / "config.json"), asked)
        elif kind == "Normalize":
            unit = True
        elif kind != "Transformer":
            raise InputError(
                f"encoder {name}: its modules.json holds a {kind or 'nameless'} module, which is not "
                "supported (Transformer, Pooling and Normalize are)"
            )
    first = _optional(name, folder / "sentence_bert_config.json")
    prompts = _optional(name, folder / "config_sentence_transformers.json")
    default = prompts.get("default_prompt_name")
    return Sentence(
        pooling=pooling,
        longest=first.get("max_seq_length"),
        prompt=str((prompts.get("prompts") or {}).get(default) or "") if default else "",
        lower=bool(first.get("do_lower_case", False)),
        unit=unit,
    )


def _pooling(name: str, settings: dict[str, Any], asked: str | None) -> str | None:
    modes = settings.get("pooling_mode") or [new for old, new in _OLD_NAMES.items() if settings.get(old)]
    modes = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
    if len(modes) == 1 and modes[0] in _POOLINGS:
        return _POOLINGS[modes[0]]
    if asked is None:
        raise InputError(
            f"encoder {name} pools by {' + '.join(modes)}, which is not supported; choose with --pooling "
            "(cls, mean or last)"
        )
    return None


def _optional(name: str, file: Path) -> dict[str, Any]:
    return _read(name, file) if file.is_file() else {}


def _read(name: str, file: Path, kind: type = dict) -> Any:
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError):
        raise InputError(f"encoder {name}: {file} is missing or not valid JSON") from None
    if not isinstance(found, kind):
        raise InputError(f"encoder {name}: {file} is no JSON {'object' if kind is dict else 'list'}")
    return found
