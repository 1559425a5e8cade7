"""What the text and audio encoders of transformers share when they are trained further and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from uml_extract.encoders.network import NetworkEncoder
from uml_extract.encoders.pretrained import save_beside
from uml_extract.spec import EncoderSpec


class TransformersModel(NetworkEncoder):
    """A model of transformers; `folder` holds the small files that it was loaded with."""

    def __init__(self, spec: EncoderSpec, model: torch.nn.Module, folder: Path, *rest: Any) -> None:
        super().__init__(spec, model, *rest)
        self.folder = folder

    def fresh(self) -> torch.nn.Module:
        """The network as transformers initialises it."""
        return type(self.network)(self.network.config)

    def checkpoint_gradients(self) -> None:
        """Keep a layer's input only, and compute the rest again on the way back."""
        self.network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write a transformers checkpoint, with the tokenizer or extractor that it was loaded with."""
        save_beside(self.network, self.folder, folder)
