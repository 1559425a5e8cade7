"""What a run was asked to do, as the command line or the file that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from uml_cache import Settings, with_checksum
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.settings import TrainSettings


@dataclass(frozen=True)
class Asked:
    """The command `way` and its settings."""

    way: str
    settings: tuple[Settings, ...]

    def command(self) -> str:
        """The command line that repeats the run; it names every setting that is not as usual."""
        return shlex.join(["uml", self.way, *(word for one in self.settings for word in one.words(self.way))])

    def to_toml(self) -> str:
        """The file that repeats the run, with every setting."""
        settings = "".join(one.to_toml(self.way) for one in self.settings)
        return with_checksum(f"# uml {self.way} --config settings.toml\n{settings}")


def asked(config: Mapping[str, Any], **changed: Any) -> Asked:
    """What the configuration of a run says; `changed` replaces some of its `TrainSettings`.

    Raises:
        InputError: a setting of a newer version.
    """
    settings = replace(TrainSettings.from_json(config["settings"]), **changed)
    if "finetune" in config:
        return Asked("finetune", (FinetuneSettings.from_json(config["finetune"]), settings))
    return Asked(settings.way, (settings,))
