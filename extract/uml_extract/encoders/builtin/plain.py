"""What the encoders without weights share: they compute in float32 on the CPU and take no options."""

from __future__ import annotations

from uml_cache import InputError
from uml_extract.spec import LAST_LAYER, EncoderOptions, EncoderSpec


class PlainEncoder:
    """An encoder of numpy code; subclasses add `prepare`, `token_counts` and `encode`."""

    variant: tuple[str, ...] = ()
    batch_size: int = 64
    compute_dtype: str = "float32"
    device: str = "cpu"
    ragged: bool = False
    input_rate: int = 0
    input_seconds: float = 0.0

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec


def refuse_options(spec: EncoderSpec, options: EncoderOptions) -> None:
    """Raise `InputError` for an option that an encoder without weights does not have."""
    given = {
        "--weights": options.weights is not None,
        "--pooling": options.pooling is not None,
        "--layer": options.layer != LAST_LAYER,
        "--transform": options.transform != "own",
    }
    for option, is_given in given.items():
        if is_given:
            raise InputError(f"encoder {spec.name} has no {option}; leave the option out")
    if options.device not in ("auto", "cpu"):
        raise InputError(f"encoder {spec.name} computes on the CPU, got --device {options.device}")
