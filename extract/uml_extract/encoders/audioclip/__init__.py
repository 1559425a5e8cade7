"""`audioclip`: the audio tower of AudioCLIP, from a file of its public weights."""

from __future__ import annotations

from uml_cache import InputError
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    if options.weights is None:
        raise InputError(
            f"encoder {spec.name}: its weights are not on the hub; give AudioCLIP-Partial-Training.pt, of "
            "the releases of github.com/AndreyGuzhov/AudioCLIP, with `--weights PATH`"
        )
    from uml_extract.encoders.audioclip.audio_tower import load_audioclip

    return load_audioclip(spec, options)


_SPEC = EncoderSpec(
    name="audioclip",
    modality="audio",
    library="torch",
    model="AudioCLIP-Partial-Training",
    width=1024,
    token_width=2048,
    pooling="own",
    licence="MIT",
    parameters=32_100_000,
    # Partial training moved the audio tower alone, into the space of OpenAI's CLIP RN50. A space that is
    # named by a model and not by its weights' digest is that of every store of the model beside it.
    joint_space="open_clip:RN50-quickgelu/openai",
)

ENCODERS: dict[str, Registered] = {"audioclip": Registered(_SPEC, _load, "AudioCLIP's audio tower, 5 s")}
