"""From a manifest's row to a sample in memory, wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from uml_extract.readers.held import as_file, as_picture, as_sound
from uml_extract.readers.members import read_row
from uml_extract.readers.samples import read_audio, read_image, read_images, read_sounds, read_text
from uml_extract.spec import Encoder, SampleError
from uml_manifests import HeldManifest

if TYPE_CHECKING:
    from uml_manifests import Manifest


def read_sample(manifest: Manifest, row: int, *, rate: int, seconds: float, least_side: int = 0) -> Any:
    """Read one row of a manifest; `rate` and `seconds` matter to sounds only, `least_side` to pictures."""
    if manifest.modality == "text":
        return read_text(manifest.sources[row])
    if isinstance(manifest, HeldManifest):
        held = _held(manifest, row)
        return as_picture(held, least_side) if manifest.modality == "image" else as_sound(held, rate, seconds)
    path = manifest.path(row)
    if manifest.modality == "array":
        return read_row(path)
    return read_image(path, least_side) if manifest.modality == "image" else read_audio(path, rate, seconds)


def read_for(encoder: Encoder, manifest: Manifest, row: int) -> Any:
    """Read one row of a manifest as `encoder` takes it.

    A transform with `jpeg_side` sees large JPEGs at a part of their size, see `read_image`.
    """
    return read_sample(
        manifest, row, rate=encoder.input_rate, seconds=encoder.input_seconds, least_side=_side(encoder)
    )


def read_jointly(encoders: Sequence[Encoder], manifest: Manifest, row: int) -> list[Any]:
    """Read one row once, as each of several encoders takes it: what `read_for` gives each.

    Raises:
        SampleError: it cannot be read as one of them takes it; another may be able to.
    """
    modality = manifest.modality
    if modality in ("text", "array"):
        return [read_for(encoders[0], manifest, row)] * len(encoders)
    sides = [_side(encoder) for encoder in encoders]
    wants = [(encoder.input_rate, encoder.input_seconds) for encoder in encoders]
    held = _held(manifest, row) if isinstance(manifest, HeldManifest) else manifest.path(row)
    file = as_file(held)
    if file is not None:
        return list(read_images(file, sides)) if modality == "image" else list(read_sounds(file, wants))
    if modality == "image":
        return [as_picture(held)] * len(encoders)  # decoded already
    return [as_sound(held, *want) for want in wants]


def _held(manifest: HeldManifest, row: int) -> Any:
    try:
        return manifest.held[row]
    except FileNotFoundError:  # deleted from the bucket since it was listed
        raise SampleError("no such object") from None


def _side(encoder: Encoder) -> int:
    return int(encoder.spec.transform.get("jpeg_side", 0))
