"""What a file says of the store that it was exported from, as far as an import believes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from uml_cache.errors import InputError


def check_attributes(attributes: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for the first attribute that is not what an export writes under its name."""
    for name, (fits, expected) in _EXPECTED.items():
        if name in attributes and not fits(attributes[name]):
            said = str(attributes[name])[:40]
            raise InputError(f"{where}: its attributes give {name} as {said!r}; expected {expected}")


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.isprintable())


def _are_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value > 0)


def _is_encoder(value: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and isinstance(value.get("name", ""), str)
        and _is_count(value.get("vocabulary"))
    )


_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("dataset", "modality", "set", "variant", "compute_dtype"), (_is_name, "a name")),
    "encoder": (_is_encoder, "an encoder with a name (and a vocabulary above 0, where it has one)"),
    "classes": (_are_names, "a list of names"),
    "token_dim": (_is_count, "a number above 0"),
}
