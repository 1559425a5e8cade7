"""The image tower of an open_clip model: encoding with it, and training it.

Shapes: B samples, L tokens of a picture (class token first), W a tower's own width, D the width of the joint
space.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models import group_parameters

from uml_cache import InputError
from uml_extract.encoders.open_clip.checkpoint import CONFIG, Found, build
from uml_extract.encoders.open_clip.context import TOKENIZER_FILES
from uml_extract.encoders.open_clip.towers import WEIGHT_NAMES
from uml_extract.spec import LAST_LAYER, Encoded, EncoderSpec
from uml_extract.torch_device import device_name, frozen_forward, to_numpy

if TYPE_CHECKING:
    from uml_manifests import Manifest

_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.|layer([1-4])\.")
_BEFORE = ("conv", "bn", "class_embedding", "positional_embedding", "ln_pre")


@dataclass(frozen=True)
class Whole:
    """The model that a tower was taken from, kept where the tower is trained: it is written as a whole."""

    model: torch.nn.Module
    found: Found


class Tower:
    """What both towers share. Pooled features of the last layer are the model's own, in the joint space."""

    batch_size = 32
    ragged = False
    input_rate = 0
    input_seconds = 0.0

    def __init__(
        self, spec: EncoderSpec, device: torch.device, compute_dtype: str, variant: tuple[str, ...]
    ) -> None:
        self._torch_device = device
        self.spec = spec
        self.variant = variant
        self.compute_dtype = compute_dtype
        self.device = device_name(device)


class ImageTower(Tower):
    """An image tower. Tokens are the last layer's, after its norm and before the projection."""

    def __init__(
        self, spec: EncoderSpec, visual: Any, transform: Any, *rest: Any, whole: Whole | None = None
    ) -> None:
        super().__init__(spec, *rest)
        # Fixed position embeddings are parameters, too.
        self._learnt = {name for name, parameter in visual.named_parameters() if parameter.requires_grad}
        self._visual = visual.eval().requires_grad_(False).to(self._torch_device)
        self._transform = transform
        self._whole = whole
        size = transform.transforms[0].size
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        probe = self.encode([np.zeros((3, height, width), dtype=np.float32)], tokens=True)
        assert probe.tokens is not None
        self._length = len(probe.tokens)
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """RGB PIL image → (3, H, W) float32."""
        return self._transform(sample).numpy()

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """The same number for every image."""
        return np.full(len(manifest), self._length, dtype=np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) images."""
        images = self.inputs(batch).to(self._torch_device, non_blocking=True)
        joint = self.spec.pooling == "joint"
        with frozen_forward(self._torch_device, self.compute_dtype):
            if joint and not tokens:
                return Encoded(to_numpy(self.features(images)))
            out, sequence, prefix = self._inside(images)
            if joint:
                pooled = out["image_features"]
            elif self.spec.pooling == "cls":
                pooled = sequence[:, 0]
            else:
                pooled = sequence[:, prefix:].mean(dim=1)
        if not tokens:
            return Encoded(to_numpy(pooled))
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)

    @property
    def network(self) -> torch.nn.Module:
        """The tower itself."""
        return self._visual

    def inputs(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """Images (B, 3, H, W) float32."""
        return torch.from_numpy(np.stack(batch))

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Features (B, D) in the joint space, with their gradient."""
        out = self._visual(inputs)
        return out[0] if isinstance(out, tuple) else out  # CoCa's tower gives its tokens, too

    def depths(self) -> list[list[str]]:
        """Parameter names: what stands before the layers (of a ResNet its stages), then layer by layer.

        Pooling and projection belong to the last layer.
        """
        trunk = getattr(self._visual, "trunk", None)
        if trunk is not None:
            groups = group_parameters(trunk, trunk.group_matcher(coarse=False))
            depths = [[f"trunk.{name}" for name in groups[depth]] for depth in sorted(groups)]
            if hasattr(trunk, "blocks"):  # behind which timm may count norms as a layer
                last = len(trunk.blocks)
                depths = [*depths[:last], [name for names in depths[last:] for name in names]]
            depths[-1] += [name for name in self._learnt if name.startswith("head.")]
        else:
            count = layers_of(self._visual) - _gives_maps(self._visual)  # a ResNet's stem is no layer here
            depths = [[] for _ in range(count + 1)]
            for name, _ in self._visual.named_parameters():
                found = _LAYER.match(name)
                if found:
                    depths[int(found[2]) if found[2] else int(found[1]) + 1].append(name)
                else:
                    depths[0 if name.startswith(_BEFORE) else -1].append(name)
        return [[name for name in names if name in self._learnt] for names in depths]

    def loaded(self) -> list[str]:
        """All of the state."""
        return list(self._visual.state_dict())

    def fresh(self) -> torch.nn.Module:
        """The tower as open_clip initialises it."""
        assert self._whole is not None
        return build(self.spec.name, self._whole.found.model).visual

    def checkpoint_gradients(self) -> None:
        """Keep a block's input only, and compute the rest again on the way back.

        Raises `InputError` for CLIP's ResNets, where open_clip does not.
        """
        if _gives_maps(self._visual) and not hasattr(self._visual, "trunk"):
            raise InputError(f"encoder {self.spec.name} is a ResNet of open_clip: leave --recompute out")
        self._visual.set_grad_checkpointing(True)

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

    def _inside(self, images: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor, int]:
        """(what the tower says, the layer's tokens (B, L, W), how many of them belong to no patch)."""
        last = self.spec.layer == LAST_LAYER
        is_map = _gives_maps(self._visual)
        out = self._visual.forward_intermediates(
            images,
            indices=[layers_of(self._visual) - 1 if last else self.spec.layer],
            normalize_intermediates=last and not is_map,
            intermediates_only=not last,
            output_fmt="NCHW" if is_map else "NLC",
            output_extra_tokens=not is_map,
        )
        (found,) = out["image_intermediates"]
        if is_map:
            return out, found.flatten(2).transpose(1, 2), 0
        before = out.get("image_intermediates_prefix")
        if not before or not before[0].shape[1]:
            return out, found, 0
        return out, torch.cat([before[0], found], dim=1), before[0].shape[1]


def _gives_maps(visual: Any) -> bool:
    """Whether the tower's layers are maps (B, W, height, width), as of a ResNet."""
    trunk = getattr(visual, "trunk", None)
    return not hasattr(trunk, "blocks") if trunk is not None else not hasattr(visual, "transformer")


def layers_of(tower: Any) -> int:
    trunk = getattr(tower, "trunk", None)
    if trunk is not None:
        return len(trunk.blocks) if hasattr(trunk, "blocks") else len(trunk.feature_info)
    holder = getattr(tower, "text", None) or tower
    return len(holder.transformer.resblocks) if hasattr(holder, "transformer") else 5
