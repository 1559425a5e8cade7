"""What a fine-tuning is asked to do beside `TrainSettings`, checked."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from uml_cache.errors import InputError, unknown
from uml_train.settings import TrainSettings

STARTS = ("pretrained", "random", "shuffled")
VIEWS = ("crop", "flip", "random-crop")
Freeze = int | Literal["all"]
_USUAL = {"normalize": "none", "normalize_on": "draw", "aligned": "normalized"}


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How the target's network is trained (paper B.4.2, B.4.4, E.12).

    Args:
        encoder: the target's network, a name that `uml_extract.load_trainable` takes.
        data: the target's samples, as `uml extract --data` takes them.
        name: the data set's name where `data` has none.
        weights: file or folder of the network's weights.
        start: `pretrained`; `random`, from scratch, each seed with a start of its own; `shuffled`, the
            pretrained weights with each tensor's values in random order: their scale, not what they know.
        img_size, patch_size: pixels; None is the network's own.
        views: what training pictures go through: the encoder's own transform (`crop`), that and a flip in
            half of the cases (`flip`), or a random crop of 8 to 100 % of the area and a flip (`random-crop`).
        freeze: how many layers stay as they are, with all that stands before them; or all.
        unfreeze_at: from this step on nothing is frozen.
        ema: decay of a running average of the weights, which is evaluated and kept in their place.
        compile: training steps go through torch.compile.
        recompute: gradient checkpointing.
        tune_aux: an auxiliary's network, trained too; its samples are `aux_data`, its learning rate `aux_lr`
            (None: that of the target's network).
        keep: whether the selected networks are written as checkpoint folders.
        workers: processes that read and prepare samples; None is a core each, 0 none but this one.

    Raises:
        InputError: a value out of range, said with what is possible.
    """

    encoder: str
    data: str
    name: str | None = None
    weights: Path | None = None
    start: str = "pretrained"
    img_size: int | None = None
    patch_size: int | None = None
    views: str = "random-crop"
    freeze: Freeze = 0
    unfreeze_at: int | None = None
    ema: float | None = None
    compile: bool = False
    recompute: bool = False
    tune_aux: str | None = None
    aux_data: str | None = None
    aux_lr: float | None = None
    keep: bool = True
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        if self.views not in VIEWS:
            raise unknown("views", self.views, VIEWS)
        for name in ("img_size", "patch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it is a number of pixels")
        if isinstance(self.freeze, int) and self.freeze < 0:
            raise InputError(f"--freeze is {self.freeze}; it takes a number of layers or `all`")
        if self.unfreeze_at is not None and (self.unfreeze_at < 1 or self.freeze == 0):
            raise InputError(
                f"--unfreeze-at is {self.unfreeze_at}; it takes a step from 1 on, with --freeze N or all"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"--ema is {self.ema:g}; it takes a decay between 0 and 1, such as 0.999")
        if (self.tune_aux is None) != (self.aux_data is None):
            raise InputError("--tune-aux ENCODER and --aux-data DATA go together: a network and its samples")
        if self.aux_lr is not None and (self.tune_aux is None or not 0 < self.aux_lr < float("inf")):
            raise InputError(f"--aux-lr is {self.aux_lr:g}; it takes a positive rate, with --tune-aux")
        if self.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            raise InputError("--compile needs a C++ compiler, such as g++; install one or leave it out")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"--loader-workers is {self.workers}; it must not be negative")

    @property
    def variant(self) -> str | None:
        """What tells the network from others of its name in a table, such as `shuffled-frozen6-until2000`."""
        parts = [] if self.start == "pretrained" else [self.start]
        if self.freeze:
            until = "" if self.unfreeze_at is None else f"-until{self.unfreeze_at}"
            parts.append(f"frozen{'' if self.freeze == 'all' else self.freeze}{until}")
        if self.ema is not None:
            parts.append(f"ema{self.ema:g}")
        return "-".join(parts) or None

    def check_with(self, settings: TrainSettings) -> None:
        """Raises `InputError` for settings that mean nothing to a network, or to an auxiliary's network."""
        for name, usual in _USUAL.items():
            value = getattr(settings, name)
            if value != usual:
                raise InputError(
                    f"--{name.replace('_', '-')} {value} is for cached features; leave it out with --finetune"
                )
        if settings.precision == "float16":
            raise InputError("--precision float16 is not there with --finetune; bfloat16 needs no scaling")
        if self.tune_aux is not None:
            for control in settings.controls:
                if control != "permuted":
                    raise InputError(f"the control {control} replaces features; with --tune-aux use permuted")
            if settings.texts == "mean":
                raise InputError("--texts mean averages features; with --tune-aux give a number or `all`")

    def to_json(self) -> dict[str, Any]:
        """JSON values; `local` holds what decides no number. `from_json` gives the settings back."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        local = {name: values.pop(name) for name in ("workers", "recompute", "keep")}
        return {**values, "local": local}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FinetuneSettings:
        fixed = {k: v for k, v in values.items() if k in cls.__dataclass_fields__} | values["local"]
        fixed["weights"] = None if fixed["weights"] is None else Path(fixed["weights"])
        return cls(**fixed)
