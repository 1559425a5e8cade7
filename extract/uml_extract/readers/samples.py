"""Readers: from a manifest's row to a sample in memory, or a `SampleError` with the reason.

Images become RGB PIL images, texts strings, sounds mono float32 of shape (n,) at the rate asked for.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.readers.members import MARK, open_member, read_row
from uml_extract.spec import Encoder, SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

    from uml_manifests import Manifest

MAX_PIXELS = 89_478_485  # 256 MiB of RGB, Pillow's own threshold for a decompression bomb
_ORIENTATION = 0x0112  # EXIF
_UNKNOWN_LENGTH = 0x7FFFFF00  # programs that write to a pipe leave some such number in the header
_FILTER_TAPS = 10  # half length of the resampling filter in samples of the slower rate, scipy's choice


@dataclass(frozen=True)
class Sound:
    """`samples` (n,) float32, mono, nominally in [-1, 1], at `rate` samples a second."""

    samples: np.ndarray
    rate: int


def read_image(path: str | Path, least_side: int = 0) -> Image:
    """Read an image upright (EXIF orientation applied) as RGB; of an animation the first frame.

    With `least_side`, JPEGs are decoded at 1/2, 1/4 or 1/8 of their size as long as both sides keep that many
    pixels, which saves most of the decoder's work; 0 decodes every pixel. 16-bit grey values are scaled,
    where Pillow alone would clip them to white. Raises `SampleError` for a file that is missing, broken,
    truncated, or larger than `MAX_PIXELS`.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    file = _file(path)
    try:
        with Image.open(file) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise SampleError(f"{width}×{height} pixels is more than the {MAX_PIXELS:,} that are read")
            if least_side:
                opened.draft("RGB", (least_side, least_side))
            opened.load()
            # Both of these copy every pixel, whether it is needed or not.
            turned = opened.getexif().get(_ORIENTATION, 1) != 1
            upright = ImageOps.exif_transpose(opened) if turned else opened
            if upright.mode.startswith("I"):
                values = np.asarray(upright).astype(np.float64) * (255 / 65535)
                upright = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
            return upright if upright.mode == "RGB" else upright.convert("RGB")
    except SampleError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SampleError(f"more than the {MAX_PIXELS:,} pixels that are read") from None
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise SampleError(_reason(error, path)) from None


def read_text(text: str) -> str:
    """The text itself; raises `SampleError` if there is nothing in it."""
    if not text.strip():
        raise SampleError("the text is empty")
    return text


def read_audio(path: str | Path, rate: int, seconds: float) -> Sound:
    """Read at most `seconds` of a sound file, mixed down to mono, resampled to `rate`.

    Raises `SampleError` for a file that is missing, broken, empty, or holds values that are not finite.
    """
    import soundfile

    path = Path(path)
    file = _file(path)
    _need_whole_wav(file, path)
    try:
        with soundfile.SoundFile(file) as stream:
            own_rate, frames = stream.samplerate, stream.frames
            wanted = math.ceil(seconds * own_rate)
            values = stream.read(wanted, dtype="float32", always_2d=True)
    except Exception as error:
        raise SampleError(_reason(error, path)) from None
    if not len(values):
        raise SampleError("the file holds no sound")
    if len(values) < min(wanted, frames):
        raise SampleError(f"{path}: ends after {len(values)} of {frames} frames")
    if not np.isfinite(values).all():
        raise SampleError("the file holds values that are not finite")
    mono = values[:, 0] if values.shape[1] == 1 else values.mean(axis=1)
    return Sound(resample(mono, own_rate, rate)[: round(seconds * rate)], rate)


def audio_length(path: Path, rate: int, seconds: float) -> int:
    """How many samples `read_audio` will give, from the file's header alone; `SampleError` as there."""
    import soundfile

    file = _file(path)
    _need_whole_wav(file, path)
    try:
        header = soundfile.info(str(file) if isinstance(file, Path) else file)
    except Exception as error:
        raise SampleError(_reason(error, path)) from None
    if not header.frames:
        raise SampleError("the file holds no sound")
    frames = min(header.frames, math.ceil(seconds * header.samplerate))
    shared = math.gcd(rate, header.samplerate)
    length = -(-frames * (rate // shared) // (header.samplerate // shared))
    return min(length, round(seconds * rate))


def resample(values: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(n,) float32 at `rate` → (ceil(n · to / rate),) float32 at `to`, by polyphase filtering."""
    if rate == to:
        return np.ascontiguousarray(values)
    from scipy.signal import resample_poly

    shared = math.gcd(rate, to)
    up, down = to // shared, rate // shared
    return resample_poly(values, up, down, window=_low_pass(max(up, down))).astype(np.float32, copy=False)


def read_sample(manifest: Manifest, row: int, *, rate: int, seconds: float) -> Any:
    """Read one row of a manifest; `rate` and `seconds` matter to sounds only."""
    if manifest.modality == "text":
        return read_text(manifest.sources[row])
    path = manifest.path(row)
    if manifest.modality == "array":
        return read_row(path)
    return read_image(path) if manifest.modality == "image" else read_audio(path, rate, seconds)


def read_for(encoder: Encoder, manifest: Manifest, row: int) -> Any:
    """Read one row of a manifest as `encoder` takes it.

    A transform with `jpeg_side` sees large JPEGs at a part of their size, see `read_image`.
    """
    side = encoder.spec.transform.get("jpeg_side", 0)
    if side and manifest.modality == "image":
        return read_image(manifest.path(row), side)
    return read_sample(manifest, row, rate=encoder.input_rate, seconds=encoder.input_seconds)


@lru_cache(maxsize=16)
def _low_pass(factor: int) -> np.ndarray:
    # scipy designs this filter anew in every call, which costs more than filtering a short sound.
    from scipy.signal import firwin

    taps = firwin(2 * _FILTER_TAPS * factor + 1, 1 / factor, window=("kaiser", 5.0))
    return taps.astype(np.float32)


def _file(path: Path) -> Path | io.BytesIO:
    """What decoders open: the file, or the bytes of a part of one (`FILE::PART`)."""
    if path.is_file():
        return path
    if MARK in str(path):
        return open_member(path)
    raise SampleError(f"no such file: {path}")


def _need_whole_wav(file: Path | io.BytesIO, path: Path) -> None:
    """libsndfile reads a WAV file that was cut off as a shorter sound; here that is an error."""
    with io.BytesIO(file.getbuffer()) if isinstance(file, io.BytesIO) else open(file, "rb") as stream:
        start = stream.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return
        size = stream.seek(0, 2)
        at = 12
        while at + 8 <= size:
            stream.seek(at)
            chunk = stream.read(8)
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                if at + 8 + length > size and length < _UNKNOWN_LENGTH:
                    raise SampleError(
                        f"{path}: cut off, {size - at - 8} of {length} bytes of sound are there"
                    )
                return
            at += 8 + length + length % 2


def _reason(error: Exception, path: Path) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if str(path) in said else f"{path}: {said}"
