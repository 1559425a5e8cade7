"""What a fine-tuning is asked to do beside `TrainSettings`, checked."""

# Annotations are not postponed here: they hold the declarations, and those are values.

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from uml_cache import InputError, Setting, Settings, at_least, declared
from uml_train.settings import SEARCHED, TrainSettings

Freeze = int | Literal["all"]
_NETWORK, _AUXILIARY, _MACHINE = "Network", "An auxiliary's network", "Machine"


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """How the target's network is trained (paper B.4.2, B.4.4, E.12).

    Raises:
        InputError: a value out of range, said with what is possible.
    """

    ways: ClassVar[tuple[str, ...]] = ("finetune",)

    # fmt: off
    encoder: Annotated[str, Setting(
        "The network to train: an encoder as of `uml extract`, or patches:LANGUAGE_MODEL.",
        metavar="ENCODER", role="data",
    )]
    data: Annotated[str, Setting(
        "The target's samples: a manifest, folder, CSV or name, as `uml extract --data` takes them.",
        metavar="DATA", role="data",
    )]
    name: Annotated[str | None, Setting(
        "Name of a data set that has none.", metavar="DATASET", role="data",
    )] = None
    weights: Annotated[Path | None, Setting(
        "File or folder with the network's weights.", group=_NETWORK, metavar="PATH", role="data",
    )] = None
    # `--start` alone would be ambiguous to torchrun, which also looks at options behind the script's name.
    start: Annotated[str, Setting(
        "Weights to start from. random: from scratch, other ones for each seed; shuffled: each tensor's "
        "pretrained values in random order.",
        group=_NETWORK, option="--start-from", choices=("pretrained", "random", "shuffled"),
    )] = "pretrained"
    img_size: Annotated[int | None, Setting(
        "Side of a picture. Default: the network's own.",
        group=_NETWORK, metavar="PIXELS", takes="a number of pixels", check=at_least(1),
    )] = None
    patch_size: Annotated[int | None, Setting(
        "Side of a patch. Default: the network's own.",
        group=_NETWORK, metavar="PIXELS", takes="a number of pixels", check=at_least(1),
    )] = None
    views: Annotated[str, Setting(
        "How training pictures are augmented. crop: the encoder's own transform; flip: that and a flip in "
        "half of the cases; random-crop: 8 to 100 % of the area and a flip.",
        group=_NETWORK, choices=("crop", "flip", "random-crop"),
    )] = "random-crop"
    freeze: Annotated[Freeze, Setting(
        "Freeze the first N layers, and the embedding before them.",
        group=_NETWORK, metavar="N|all", takes="a number of layers or `all`",
        check=lambda layers: layers == "all" or layers >= 0,
    )] = 0
    unfreeze_at: Annotated[int | None, Setting(
        "Unfreeze everything from this step on.",
        group=_NETWORK, metavar="STEP", takes="a step from 1 on, with --freeze N or all", check=at_least(1),
    )] = None
    transform: Annotated[str, Setting(
        "How every picture is prepared. own: the network's; paper: 224 pixels, CLIP's mean and "
        "deviation.",
        group=_NETWORK, choices=("own", "paper"),
    )] = "own"
    batch_norm: Annotated[str, Setting(
        "Statistics that BatchNorm trains with. batches: those of each batch; until-evaluated: running ones "
        "after the first evaluation, without dropout, as in the public code.",
        group=_NETWORK, choices=("batches", "until-evaluated"),
    )] = "batches"
    ema: Annotated[float | None, Setting(
        "Evaluate and keep a running average of the weights.",
        group=_NETWORK, metavar="DECAY", takes="a decay between 0 and 1, such as 0.999",
        check=lambda decay: 0 < decay < 1,
    )] = None
    keep: Annotated[bool, Setting(
        "Keep the selected networks as folders for `uml extract --encoder`.  [default: keep them]",
        group=_NETWORK, option="--keep-backbones/--no-backbones", role="local",
    )] = True
    tune_aux: Annotated[str | None, Setting(
        "Train an auxiliary's network, too, on the samples of --aux-data.",
        group=_AUXILIARY, metavar="ENCODER",
    )] = None
    aux_data: Annotated[str | None, Setting(
        "The samples of --tune-aux.", group=_AUXILIARY, metavar="DATA", role="data",
    )] = None
    aux_lr: Annotated[float | None, Setting(
        "Learning rate of --tune-aux. Default: the target's.",
        group=_AUXILIARY, metavar="RATE", takes="a positive rate, with --tune-aux",
        check=lambda rate: 0 < rate < inf,
    )] = None
    compile: Annotated[bool, Setting(
        "Run steps through torch.compile: minutes at the beginning, no clear gain on a CPU.",
        group=_MACHINE,
    )] = False
    recompute: Annotated[bool, Setting(
        "Use gradient checkpointing: less memory, slower.", group=_MACHINE, role="local",
    )] = False
    workers: Annotated[int | None, Setting(
        "Processes that read samples. 0: none but this one. Default: one a core.",
        group=_MACHINE, option="--loader-workers", metavar="N", takes="a number of processes from 0 on",
        role="local", check=at_least(0),
    )] = None
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unfreeze_at is not None and self.freeze == 0:
            raise InputError(f"--unfreeze-at is {self.unfreeze_at}; it goes with --freeze N or all")
        if (self.tune_aux is None) != (self.aux_data is None):
            raise InputError("--tune-aux ENCODER and --aux-data DATA go together: a network and its samples")
        if self.aux_lr is not None and self.tune_aux is None:
            raise InputError(f"--aux-lr is {self.aux_lr:g}; it goes with --tune-aux")
        if self.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            raise InputError("--compile needs a C++ compiler, such as g++; install one or leave it out")

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
        settings.check_way("finetune", "is for cached features, not for --finetune")
        if settings.precision == "float16":
            raise InputError("--precision float16 is not there with --finetune; bfloat16 needs no scaling")
        if self.tune_aux is not None:
            for control in settings.controls:
                if control != "permuted":
                    raise InputError(f"the control {control} replaces features; with --tune-aux use permuted")
            if settings.texts in ("mean", SEARCHED):
                raise InputError(
                    f"--texts {settings.texts} averages features; with --tune-aux give a number or `all`"
                )

    def to_json(self) -> dict[str, Any]:
        """JSON values; `local` holds what decides no number. `from_json` gives the settings back."""
        known = declared(type(self))
        values = super().to_json()
        local = {name: values.pop(name) for name, setting in known.items() if setting.role == "local"}
        return {**values, "local": local}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The settings that a run's configuration records."""
        own = {name: value for name, value in values.items() if name not in ("local", "networks")}
        return super().from_json({**own, **values["local"]})
