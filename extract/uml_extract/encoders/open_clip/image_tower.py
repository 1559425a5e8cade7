"""The image tower of an open_clip model: encoding with it, and training it.

Shapes: B samples, L tokens of a picture (class token first), W a tower's own width, D the width of the joint
space.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models import group_parameters

from uml_cache import InputError
from uml_extract.encoders.open_clip import WEIGHT_NAMES
from uml_extract.encoders.open_clip.checkpoint import CONFIG, Found, build
from uml_extract.encoders.open_clip.context import TOKENIZER_FILES
from uml_extract.encoders.vision import VisionEncoder
from uml_extract.spec import LAST_LAYER, EncoderSpec

_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.|layer([1-4])\.")
_BEFORE = ("conv", "bn", "class_embedding", "positional_embedding", "ln_pre")


@dataclass(frozen=True)
class Whole:
    """The model that a tower was taken from, kept where the tower is trained: it is written as a whole."""

    model: torch.nn.Module
    found: Found


class ImageTower(VisionEncoder):
    """An image tower. Tokens are the layer's, of the last one after its norm; pooled features of the last
    layer are the model's own, in the joint space."""

    def __init__(
        self, spec: EncoderSpec, visual: Any, transform: Any, *rest: Any, whole: Whole | None = None
    ) -> None:
        # Fixed position embeddings are parameters, too.
        self._learnt = {name for name, parameter in visual.named_parameters() if parameter.requires_grad}
        self._whole = whole
        size = transform.transforms[0].size
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        super().__init__(spec, visual, transform, (3, height, width), *rest)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, D) with their gradient, of the last layer in the joint space; float32 without
        autocast."""
        if self.spec.pooling != "joint":
            return self._with_tokens(inputs)[0]
        out = self.network(inputs)
        return out[0] if isinstance(out, tuple) else out  # CoCa's tower gives its tokens, too

    def depths(self) -> list[list[str]]:
        """Parameter names: what stands before the layers (of a ResNet its stages), then layer by layer.

        Pooling and projection belong to the last layer.
        """
        trunk = getattr(self.network, "trunk", None)
        if trunk is not None:
            groups = group_parameters(trunk, trunk.group_matcher(coarse=False))
            depths = [[f"trunk.{name}" for name in groups[depth]] for depth in sorted(groups)]
            if hasattr(trunk, "blocks"):  # behind which timm may count norms as a layer
                last = len(trunk.blocks)
                depths = [*depths[:last], [name for names in depths[last:] for name in names]]
            depths[-1] += [name for name in self._learnt if name.startswith("head.")]
        else:
            count = layers_of(self.network) - _gives_maps(self.network)  # a ResNet's stem is no layer here
            depths = [[] for _ in range(count + 1)]
            for name, _ in self.network.named_parameters():
                found = _LAYER.match(name)
                if found:
                    depths[int(found[2]) if found[2] else int(found[1]) + 1].append(name)
                else:
                    depths[0 if name.startswith(_BEFORE) else -1].append(name)
        return [[name for name in names if name in self._learnt] for names in depths]

    def fresh(self) -> torch.nn.Module:
        """The tower as open_clip initialises it."""
        assert self._whole is not None
        return build(self.spec.name, self._whole.found.model).visual

    def checkpoint_gradients(self) -> None:
        """Keep a block's input only, and compute the rest again on the way back.

        Raises `InputError` for CLIP's ResNets, where open_clip does not.
        """
        if _gives_maps(self.network) and not hasattr(self.network, "trunk"):
            raise InputError(f"encoder {self.spec.name} is a ResNet of open_clip: leave --recompute out")
        self.network.set_grad_checkpointing(True)

    def save(self, folder: Path) -> None:
        """Write an open_clip checkpoint: both towers, that of texts as it was loaded."""
        assert self._whole is not None
        found = self._whole.found
        folder.mkdir(parents=True, exist_ok=True)
        # Copies, since a file of this format holds no two tensors that share memory.
        state = {
            name: value.cpu().clone().contiguous() for name, value in self._whole.model.state_dict().items()
        }
        save_file(state, folder / WEIGHT_NAMES[0], {"format": "pt"})
        config = {"model_cfg": found.model, "preprocess_cfg": found.preprocess}
        (folder / CONFIG).write_text(json.dumps(config, indent=1))
        for name in TOKENIZER_FILES:
            if found.folder is not None and (found.folder / name).is_file():
                shutil.copyfile(found.folder / name, folder / name)

    def _with_tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D), and the layer's tokens (B, L, W)."""
        last = self.spec.layer == LAST_LAYER
        is_map = _gives_maps(self.network)
        out = self.network.forward_intermediates(
            images,
            indices=[layers_of(self.network) - 1 if last else self.spec.layer],
            normalize_intermediates=last and not is_map,
            intermediates_only=not last,
            output_fmt="NCHW" if is_map else "NLC",
            output_extra_tokens=not is_map,
        )
        (sequence,) = out["image_intermediates"]
        before = out.get("image_intermediates_prefix")
        prefix = 0  # tokens that belong to no patch
        if is_map:
            sequence = sequence.flatten(2).transpose(1, 2)
        elif before:
            prefix = before[0].shape[1]
            sequence = torch.cat([before[0], sequence], dim=1)
        if self.spec.pooling == "joint":
            return out["image_features"], sequence
        pooled = sequence[:, 0] if self.spec.pooling == "cls" else sequence[:, prefix:].mean(dim=1)
        return pooled, sequence


def _gives_maps(visual: Any) -> bool:
    """Whether the tower's layers are maps (B, W, height, width), as of a ResNet."""
    trunk = getattr(visual, "trunk", None)
    return not hasattr(trunk, "blocks") if trunk is not None else not hasattr(visual, "transformer")


def layers_of(tower: Any) -> int:
    """How many layers a tower has whose outputs can be taken: blocks, or stages of a ResNet."""
    trunk = getattr(tower, "trunk", None)
    if trunk is not None:
        return len(trunk.blocks) if hasattr(trunk, "blocks") else len(trunk.feature_info)
    holder = getattr(tower, "text", None) or tower
    return len(holder.transformer.resblocks) if hasattr(holder, "transformer") else 5
