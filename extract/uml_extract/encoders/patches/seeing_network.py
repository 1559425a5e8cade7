"""Layers of a language model that see: image patches in, class token out (paper 4.3, B.4.4).

Shapes: B images, N patches, D width of the language model, L = N + 1 tokens, the class token first.
Tensors are float32 without autocast.

What timm's vision networks offer (`forward_features`, `forward_head`, `group_matcher`) is offered here too,
so that one encoder serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from uml_cache import InputError

DROPOUT = 0.1
KINDS = ("bert", "gpt2")


class LanguagePatches(nn.Module):
    """Patches through a linear projection, a class token, learnt positions, the language model's layers.

    Every token attends to every other, in GPT-2's layers too. The pooled feature is a hidden layer on the
    class token; with a linear head on top it is the paper's two-layer MLP.

    Args:
        config: of the language model, a BERT or a GPT-2.
        img_size, patch_size: pixels; the first is a multiple of the second.

    Raises:
        InputError: another language model, or sizes that do not go together.
    """

    num_prefix_tokens = 1
    global_pool = "token"

    def __init__(self, config: PretrainedConfig, *, img_size: int, patch_size: int) -> None:
        super().__init__()
        if config.model_type not in KINDS:
            raise InputError(
                f"{config.model_type} layers cannot see yet; expected {' or '.join(KINDS)} for patches:MODEL"
            )
        if img_size % patch_size:
            raise InputError(
                f"an image of {img_size} pixels is not cut into patches of {patch_size}; choose --img-size "
                "and --patch-size so that one divides the other"
            )
        self.config, self.img_size, self.patch_size = config, img_size, patch_size
        width = int(config.hidden_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (img_size // patch_size) ** 2 + 1, width))
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
        self.drop = nn.Dropout(DROPOUT)
        config._attn_implementation = "sdpa"
        make: Callable[[int], nn.Module]
        if config.model_type == "bert":
            config.is_decoder = False
            make = lambda i: BertLayer(config, layer_idx=i)  # noqa: E731
        else:
            make = lambda i: GPT2Block(config, layer_idx=i)  # noqa: E731
        self.layers = nn.ModuleList(make(i) for i in range(int(config.num_hidden_layers)))
        # The language model's own last norm; BERT's layers end in one each.
        self.norm = nn.LayerNorm(width) if config.model_type == "gpt2" else nn.Identity()
        self.hidden = nn.Linear(width, width)
        self._checkpointing = False
        module: Any
        for module in self.layers.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
        self._initialise()

    def _initialise(self) -> None:
        """As transformers initialises language models, whatever the layers' own constructors did."""
        std = float(self.config.initializer_range)
        module: Any
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(getattr(module, "weight", None), nn.Parameter):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=std)
        nn.init.normal_(self.pos_embed, std=std)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, L, D)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        x = self.drop(x + self.pos_embed)
        for layer in self.layers:
            out: Any = checkpoint(layer, x, use_reentrant=False) if self._checkpointing else layer(x)
            x = out[0] if isinstance(out, tuple) else out
        return self.norm(x)

    def forward_head(self, tokens: Tensor) -> Tensor:
        """(B, L, D) → (B, D)."""
        return nn.functional.gelu(self.hidden(tokens[:, 0]))

    def forward(self, images: Tensor) -> Tensor:
        """What the head makes of images (B, 3, H, W)."""
        return self.forward_head(self.forward_features(images))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Depths as timm names them: nothing before the layers counts as pretrained."""
        return {"layers": r"^layers\.(\d+)", "norm": [(r"^norm", (99_999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether activations are computed again in the backward pass, to save memory."""
        self._checkpointing = enable


def language_state(model: nn.Module, kind: str) -> dict[str, Tensor]:
    """The state of `LanguagePatches`' layers from a transformers model: its own tensors, of any shape and
    dtype, renamed.

    Args:
        kind: `bert` or `gpt2`.
    """
    prefix = {"bert": "encoder.layer.", "gpt2": "h."}[kind]
    state = {
        f"layers.{name[len(prefix) :]}": value
        for name, value in model.state_dict().items()
        if name.startswith(prefix)
    }
    if kind == "gpt2":
        state |= {f"norm.{part}": model.state_dict()[f"ln_f.{part}"] for part in ("weight", "bias")}
    return state
