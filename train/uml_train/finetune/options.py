"""The options of `uml train` that train whole networks, and the settings made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from uml_train.finetune.finetune_settings import FinetuneSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PREFIX = "finetune_"
# Of these each means something with --finetune only: (option, its value when it is not given).
_USUAL = {
    "data": None, "name": None, "weights": None, "start": "pretrained", "img_size": None, "patch_size": None,
    "views": "random-crop", "freeze": "0", "unfreeze_at": None, "ema": None, "compile": False,
    "recompute": False, "tune_aux": None, "aux_data": None, "aux_lr": None, "keep": True, "workers": None,
}  # fmt: skip

# `--start` alone would be ambiguous to torchrun, which looks at the options behind the script's name, too.
_NAMES = {"keep": "no-backbones", "workers": "loader-workers", "start": "start-from"}


def finetune_options(command: _Command) -> _Command:
    """Add the options to a command; each arrives as `finetune_…`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _option(names: list[str], key: str, **attributes: Any) -> Callable[[_Command], _Command]:
    return click.option(*names, f"{_PREFIX}{key}", **attributes)


_OPTIONS = (
    _option(["--finetune"], "encoder", metavar="ENCODER",
            help="Train the whole network on the samples of --data instead of heads on features: an encoder "
                 "as of `uml extract`, or patches:LANGUAGE_MODEL."),
    _option(["--data"], "data", metavar="DATA",
            help="With --finetune: the target's samples, as `uml extract --data` takes them."),
    _option(["--name"], "name", metavar="DATASET", help="Name of a data set that has none."),
    _option(["--weights"], "weights", type=click.Path(path_type=Path), help="Weights of the network."),
    _option(["--start-from"], "start", default="pretrained", show_default=True, metavar="KIND",
            help="pretrained, random (from scratch) or shuffled (each tensor's values in random order)."),
    _option(["--img-size"], "img_size", type=int, help="Pixels. Default: the network's own."),
    _option(["--patch-size"], "patch_size", type=int, help="Pixels. Default: the network's own."),
    _option(["--views"], "views", default="random-crop", show_default=True, metavar="KIND",
            help="Of training pictures: crop (the encoder's own transform), flip, random-crop."),
    _option(["--freeze"], "freeze", default="0", show_default=True, metavar="N|all",
            help="Layers that stay as they are, with what stands before them."),
    _option(["--unfreeze-at"], "unfreeze_at", type=int, metavar="STEP",
            help="From this step on nothing is frozen."),
    _option(["--ema"], "ema", type=float, metavar="DECAY",
            help="Evaluate and keep a running average of the weights, such as 0.999."),
    _option(["--compile"], "compile", is_flag=True,
            help="Steps through torch.compile: minutes at the beginning, no clear gain on a CPU."),
    _option(["--recompute"], "recompute", is_flag=True, help="Gradient checkpointing: less memory, slower."),
    _option(["--tune-aux"], "tune_aux", metavar="ENCODER",
            help="Train an auxiliary's network, too, on the samples of --aux-data."),
    _option(["--aux-data"], "aux_data", metavar="DATA", help="The samples of --tune-aux."),
    _option(["--aux-lr"], "aux_lr", type=float, help="Its learning rate. Default: the target's."),
    _option(["--keep-backbones/--no-backbones"], "keep", default=True, show_default=True,
            help="Write the selected networks as folders that `uml extract --encoder` takes."),
    _option(["--loader-workers"], "workers", type=int,
            help="Processes that read samples. Default: one per core."),
)  # fmt: skip


def take_finetune(options: dict[str, Any]) -> FinetuneSettings | None:
    """Take the options out of a command's; None where nothing is fine-tuned.

    Raises:
        InputError: an option that belongs to `--finetune` without it, or `--finetune` without `--data`.
    """
    from uml_cache.errors import InputError

    given = {key.removeprefix(_PREFIX): options.pop(key) for key in list(options) if key.startswith(_PREFIX)}
    if given["encoder"] is None:
        for key, usual in _USUAL.items():
            if given[key] != usual:
                name = _NAMES.get(key, key.replace("_", "-"))
                raise InputError(f"--{name} belongs to --finetune ENCODER; heads train on cached features")
        return None
    from uml_train.finetune.finetune_settings import FinetuneSettings

    if given["data"] is None:
        raise InputError("--finetune needs the samples themselves: --data MANIFEST, folder or CSV")
    freeze = given.pop("freeze")
    if freeze != "all" and not freeze.isdecimal():
        raise InputError(f"--freeze is {freeze!r}; it takes a number of layers or `all`")
    return FinetuneSettings(**given, freeze="all" if freeze == "all" else int(freeze))
