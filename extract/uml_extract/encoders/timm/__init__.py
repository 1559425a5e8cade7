"""Vision encoders of the timm library: DINO, DINOv2 and DINOv3 by short name, any other as `timm:ID`.

Shapes: B images, L tokens of an image (class and register tokens first), D features.
"""

from __future__ import annotations

from uml_extract.encoders.hub import hub_model
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    untrained = options.tuning is not None and options.tuning.untrained
    if spec.name in ENCODERS and options.weights is None and not untrained:
        # Before timm and torch are imported, so that a missing checkpoint is said at once.
        hub_model(spec.name, f"timm/{spec.model}", config=None)
    from uml_extract.encoders.timm.loading import load_timm

    return load_timm(spec, rest, options)


def _dino(
    name: str,
    model: str,
    width: int,
    parameters: float,
    summary: str,
    pooling: str = "cls",
    licence: str = "Apache-2.0",
) -> Registered:
    spec = EncoderSpec(
        name=name,
        modality="image",
        library="timm",
        model=model,
        width=width,
        token_width=width,
        pooling=pooling,
        transform={"input_size": [3, 224, 224]},
        licence=licence,
        parameters=int(parameters * 1e6),
    )
    return Registered(spec, _load, summary)


_ENTRIES = (
    _dino("dino_vitb16", "vit_base_patch16_224.dino", 768, 85.8, "DINO ViT-B/16 at 224"),
    _dino("dino_vitb8", "vit_base_patch8_224.dino", 768, 85.8, "DINO ViT-B/8 at 224"),
    _dino("dinov2_vits14", "vit_small_patch14_dinov2.lvd142m", 384, 22.1, "DINOv2 ViT-S/14 at 224"),
    _dino("dinov2_vitb14", "vit_base_patch14_dinov2.lvd142m", 768, 86.6, "DINOv2 ViT-B/14 at 224"),
    _dino("dinov2_vitl14", "vit_large_patch14_dinov2.lvd142m", 1024, 304.4, "DINOv2 ViT-L/14 at 224"),
    *(
        _dino(
            f"dinov3_vit{size[0]}16",
            f"vit_{size}_patch16_dinov3.lvd1689m",
            width,
            parameters,
            f"DINOv3 ViT-{size[0].upper()}/16 at 224, mean of patches",
            pooling="mean",
            licence="DINOv3",
        )
        for size, width, parameters in (("small", 384, 21.6), ("base", 768, 85.6), ("large", 1024, 303.1))
    ),
)
_ANY = EncoderSpec(name="timm:ID", modality="image", library="timm", model="", pooling="own")

ENCODERS: dict[str, Registered] = {
    **{entry.spec.name: entry for entry in _ENTRIES},
    "timm:": Registered(_ANY, _load, "any model of timm, at its own size"),
}
