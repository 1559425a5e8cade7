"""Loading a module only when an encoder of it is asked for, so that the registry itself needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec


def loader(module: str, function: str) -> Callable[[EncoderSpec, str, EncoderOptions], Encoder]:
    """A `Registered.load` that imports `module` on its first call."""

    def load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
        return getattr(import_module(module), function)(spec, rest, options)

    return load
