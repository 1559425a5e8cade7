"""Both towers of open_clip models: CLIP and SigLIP 2 by short name, any other as `open_clip:ARCH/TAG`.

The text tower of `open_clip:ARCH/TAG` is `open_clip_text:ARCH/TAG`; both map into one joint space.
"""

from __future__ import annotations

from uml_extract.encoders.hub import hub_model
from uml_extract.encoders.open_clip import WEIGHT_NAMES
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    if spec.name in _REPOSITORIES and options.weights is None:
        # Before open_clip and torch are imported, so that a missing checkpoint is said at once.
        hub_model(spec.name, _REPOSITORIES[spec.name], config=None, names=WEIGHT_NAMES)
    from uml_extract.encoders.open_clip.text_tower import load_open_clip

    return load_open_clip(spec, rest, options)


def _towers(
    name: str,
    model: str,
    width: int,
    token_widths: tuple[int, int],
    millions: tuple[float, float],
    what: str,
) -> tuple[Registered, Registered]:
    """The image tower and the text tower of one model."""
    both = []
    for at, modality in enumerate(("image", "text")):
        spec = EncoderSpec(
            name=name if modality == "image" else f"{name}_text",
            modality=modality,
            library="open_clip",
            model=model,
            width=width,
            token_width=token_widths[at],
            pooling="joint",
            licence="Apache-2.0" if "SigLIP" in model else "MIT",
            parameters=int(millions[at] * 1e6),
            joint_space=name,
        )
        both.append(Registered(spec, _load, f"{what}, {modality} tower"))
    return both[0], both[1]


_ENTRIES = (
    *_towers("clip_vitb16", "ViT-B-16-quickgelu/openai", 512, (768, 512), (86.2, 63.4), "CLIP ViT-B/16"),
    *_towers("clip_rn50", "RN50-quickgelu/openai", 1024, (2048, 512), (38.3, 63.7), "CLIP RN50"),
    *_towers("siglip2_vitb16", "ViT-B-16-SigLIP2/webli", 768, (768, 768), (92.9, 282.3), "SigLIP 2 ViT-B/16"),
)
_REPOSITORIES = {
    "clip_vitb16": "timm/vit_base_patch16_clip_224.openai",
    "clip_vitb16_text": "timm/vit_base_patch16_clip_224.openai",
    "clip_rn50": "timm/resnet50_clip.openai",
    "clip_rn50_text": "timm/resnet50_clip.openai",
    "siglip2_vitb16": "timm/ViT-B-16-SigLIP2",
    "siglip2_vitb16_text": "timm/ViT-B-16-SigLIP2",
}


def repository_of(name: str) -> str | None:
    """Where the weights of a tower by its short name are on the hub; None for a name that is none."""
    return _REPOSITORIES.get(name)


def _any(name: str, modality: str) -> EncoderSpec:
    return EncoderSpec(name=name, modality=modality, library="open_clip", model="", pooling="joint")


ENCODERS: dict[str, Registered] = {
    **{entry.spec.name: entry for entry in _ENTRIES},
    "open_clip:": Registered(_any("open_clip:ID", "image"), _load, "image tower of ARCH/TAG or hf-hub:ID"),
    "open_clip_text:": Registered(_any("open_clip_text:ID", "text"), _load, "text tower of the same"),
}
