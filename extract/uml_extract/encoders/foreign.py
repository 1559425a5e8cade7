"""Settings of other people's checkpoints: numbers and names, never a way to run or to fetch something else.

A checkpoint's JSON files reach the libraries as keyword arguments. What would make one of them run code of
the folder or of the hub, or fetch weights from elsewhere, is refused here, before a library has seen it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uml_cache import InputError, parse_json

_ELSEWHERE = ("hf-hub:", "hf_hub:", "hf:", "local-dir:", "http:", "https:")
_FETCHES = ("use_pretrained_backbone", "timm_model_pretrained")
_NAMES = ("architecture", "timm_model_name")


def read_settings(name: str, file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint's folder.

    Raises `InputError` where it is missing, no JSON object, or asks for code or weights from elsewhere.
    """
    try:
        values = parse_json(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"encoder {name}: {file.parent} holds no {file.name}") from None
    except (OSError, ValueError):
        raise InputError(f"encoder {name}: {file} cannot be read as JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"encoder {name}: {file} is a JSON {type(values).__name__}; expected an object")
    refuse_foreign(name, values, file)
    return values


def refuse_foreign(name: str, values: Any, file: Path) -> None:
    """Raise `InputError` for settings, however deep, that would run code or fetch weights from elsewhere."""
    for key, value in _settings(values):
        said = None
        if key == "trust_remote_code" and value:
            said = "asks for code of its own to be run"
        elif key.endswith("_implementation") and isinstance(value, str) and "/" in value:
            said = f"asks for code of the hub ({value[:60]})"
        elif key in _FETCHES and value:
            said = "asks for weights from elsewhere"
        elif key in _NAMES and isinstance(value, str) and value.startswith(_ELSEWHERE):
            said = f"names a model that lies elsewhere ({value[:60]})"
        if said:
            raise InputError(f"encoder {name}: {file} {said} ({key}), which is refused")


def _settings(values: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, in nested objects and lists too."""
    waiting = [values]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from ((str(key), value) for key, value in here.items())
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
