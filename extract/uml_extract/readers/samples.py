"""Readers: from a file to a sample in memory, or a `SampleError` with the reason.

Images become RGB PIL images, texts strings, sounds mono float32 of shape (n,) at the rate asked for.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uml_extract.readers.members import MARK, open_member
from uml_extract.spec import NO_MEMORY, SampleError

if TYPE_CHECKING:
    from PIL.Image import Image
    from soundfile import SoundFile

MAX_PIXELS = 89_478_485  # 256 MiB of RGB, Pillow's own threshold for a decompression bomb
_ORIENTATION = 0x0112  # EXIF
_RASTER = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF", "JPEG2000", "AVIF", "MPO"),
    *("TGA", "PCX", "SGI", "QOI"),
)  # decoded by Pillow itself: other kinds (PostScript, Windows metafiles) are handed to other programs
_LONG_SIDE = MAX_PIXELS // 256**2  # times the other side: resized to 256, more would be over MAX_PIXELS
_STRIP = 1 << 22  # pixels of 16 bits that are converted together
_RATES = (1, 768_000)  # samples a second; the highest that any recorder writes
_LARGEST_FACTOR = 200_000  # of a resampling filter, which has 20 taps for each: below 0.1 s and 50 MB
_BLOCK = 1 << 24  # values of a sound that are decoded together, all channels: 64 MiB
_MOST_CHUNKS = 1000  # of a WAV file before its sound
_UNKNOWN_LENGTH = 0x7FFFFF00  # programs that write to a pipe leave some such number in the header
_IN_MEMORY = Path("sample")  # what an error calls a file that is in memory
_FILTER_TAPS = 10  # half length of the resampling filter in samples of the slower rate, scipy's choice


@dataclass(frozen=True)
class Sound:
    """`samples` (n,) float32, mono, nominally in [-1, 1], at `rate` samples a second."""

    samples: np.ndarray
    rate: int


def read_image(path: str | Path | io.BytesIO, least_side: int = 0) -> Image:
    """Read an image upright (EXIF orientation applied) as RGB; of an animation the first frame.

    With `least_side`, JPEGs are decoded at 1/2, 1/4 or 1/8 of their size as long as both sides keep that many
    pixels, which saves most of the decoder's work; 0 decodes every pixel. 16-bit grey values are scaled,
    where Pillow alone would clip them to white. Only kinds of pictures that Pillow decodes itself are read,
    whatever the file is called. Raises `SampleError` for a file that is missing, broken, truncated, larger
    than `MAX_PIXELS`, or thinner than a resized picture can be.
    """
    from PIL import Image, UnidentifiedImageError

    file = path if isinstance(path, io.BytesIO) else _file(Path(path))
    path = _IN_MEMORY if isinstance(path, io.BytesIO) else Path(path)
    try:
        with Image.open(file, formats=_raster_formats()) as opened:
            _check_size(*opened.size)
            if least_side:
                opened.draft("RGB", (least_side, least_side))
            opened.load()
            return upright_rgb(opened)
    except SampleError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SampleError(f"more than the {MAX_PIXELS:,} pixels that are read") from None
    except UnidentifiedImageError:
        raise SampleError(
            f"{path}: is no picture of a kind that is read ({', '.join(_RASTER[:8])}, …)"
        ) from None
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise SampleError(_reason(error, path)) from None


def read_images(path: str | Path | io.BytesIO, sides: Sequence[int]) -> list[Image]:
    """What `read_image` gives for each of `sides`, from one look at the file.

    It is decoded once for all sides that lead to the same size, which for most files are all of them. Who
    takes a picture must not change it. Raises `SampleError` if it cannot be read for one of them.
    """
    distinct = dict.fromkeys(sides)
    if len(distinct) == 1:
        return [read_image(path, sides[0])] * len(sides)
    found = path if isinstance(path, io.BytesIO) else _file(Path(path))
    file = found if isinstance(found, io.BytesIO) else _whole(found)
    of_size: dict[tuple[int, int], Image] = {}
    pictures: dict[int, Image] = {}
    for side in distinct:
        size = _decoded_size(file, side)
        if size not in of_size:
            of_size[size] = read_image(file, side)
        pictures[side] = of_size[size]
    return [pictures[side] for side in sides]


def _whole(path: Path) -> io.BytesIO:
    try:
        return io.BytesIO(path.read_bytes())
    except OSError as error:
        raise SampleError(_reason(error, path)) from None


def _decoded_size(file: io.BytesIO, side: int) -> tuple[int, int]:
    """Width and height at which the decoder gives a picture of at least `side`, from its header alone."""
    from PIL import Image

    try:
        with Image.open(file, formats=_raster_formats()) as opened:
            if side:
                opened.draft("RGB", (side, side))
            return opened.size
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise SampleError(_reason(error, _IN_MEMORY)) from None


def upright_rgb(opened: Image) -> Image:
    """A decoded picture upright, as RGB. Raises `SampleError` for one that is too large or too thin."""
    from PIL import ImageOps

    _check_size(*opened.size)
    # Both of these copy every pixel, whether it is needed or not.
    turned = opened.getexif().get(_ORIENTATION, 1) != 1
    upright = ImageOps.exif_transpose(opened) if turned else opened
    if upright.mode.startswith(("I", "F")):
        upright = _eight_bits(upright)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SampleError(f"{width}×{height} pixels is more than the {MAX_PIXELS:,} that are read")
    if max(width, height) > _LONG_SIDE * min(width, height):
        raise SampleError(f"{width}×{height} pixels: one side is more than {_LONG_SIDE} times the other")


@lru_cache(maxsize=1)
def _raster_formats() -> list[str]:
    """Those of `_RASTER` that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [kind for kind in _RASTER if kind in Image.OPEN]


def _eight_bits(image: Image) -> Image:
    """A picture of 16 bits or of real numbers as one of 8, a strip at a time: as numbers it takes many times
    its own memory. Raises `SampleError` for values beyond 16 bits, and for real numbers beyond 0 to 1."""
    from PIL import Image

    width, height = image.size
    most = 1.0 if image.mode == "F" else 65535.0
    scaled = np.empty((height, width), np.uint8)
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        values = np.asarray(strip).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= most):  # also where one of them is not a number
            what = "real numbers" if image.mode == "F" else "whole numbers"
            raise SampleError(f"{what} from {low:g} to {high:g} are no picture; expected 0 to {most:g}")
        scaled[top : top + rows] = np.rint(values * (255 / most))
    return Image.fromarray(scaled)


def read_text(text: str) -> str:
    """The text itself; raises `SampleError` if there is nothing in it."""
    if not text.strip():
        raise SampleError("the text is empty")
    return text


def read_audio(path: str | Path | io.BytesIO, rate: int, seconds: float) -> Sound:
    """Read at most `seconds` of a sound file, mixed down to mono, resampled to `rate` (in Hz).

    What the header says is checked before any memory is taken for it. Raises `SampleError` for a file that is
    missing, broken, empty, of a rate that cannot be resampled, or holds values that are not finite.
    """
    return read_sounds(path, [(rate, seconds)])[0]


def read_sounds(path: str | Path | io.BytesIO, wants: Sequence[tuple[int, float]]) -> list[Sound]:
    """What `read_audio` gives for each (rate, seconds), decoded once as far as the longest of them goes.

    Raises `SampleError` if it cannot be read for one of them.
    """
    import soundfile

    seconds = max(seconds for _, seconds in wants)
    file = path if isinstance(path, io.BytesIO) else _file(Path(path))
    path = _IN_MEMORY if isinstance(path, io.BytesIO) else Path(path)
    _need_whole_wav(file, path)
    try:
        with soundfile.SoundFile(file) as stream:
            own_rate, frames = stream.samplerate, stream.frames
            for rate, _ in wants:
                _check_rate(own_rate, rate)
            wanted = min(math.ceil(seconds * own_rate), frames)
            mono = _mono(stream, wanted)
    except SampleError:
        raise
    except Exception as error:
        raise SampleError(_reason(error, path)) from None
    if len(mono) < wanted:
        raise SampleError(f"{path}: ends after {len(mono)} of {frames} frames")
    return [sound_at(mono, own_rate, rate, longest) for rate, longest in wants]


def sound_at(mono: np.ndarray, own_rate: int, rate: int, seconds: float) -> Sound:
    """At most `seconds` of a mono sound (n,) float32, resampled. `SampleError` where it is none."""
    _check_rate(own_rate, rate)
    mono = mono[: math.ceil(seconds * own_rate)]
    if not len(mono):
        raise SampleError("the file holds no sound")
    if not np.isfinite(mono).all():
        raise SampleError("the file holds values that are not finite")
    return Sound(resample(mono, own_rate, rate)[: round(seconds * rate)], rate)


def _mono(stream: SoundFile, wanted: int) -> np.ndarray:
    """(n,) float32, the first `wanted` frames or as many as there are, a block of them at a time."""
    parts: list[np.ndarray] = []
    at_once = max(1, _BLOCK // stream.channels)
    while wanted > 0:
        values = stream.read(min(wanted, at_once), dtype="float32", always_2d=True)
        if not len(values):
            break
        parts.append(values[:, 0] if values.shape[1] == 1 else values.mean(axis=1))
        wanted -= len(values)
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _check_rate(rate: int, to: int) -> None:
    """Headers are a few bytes; the filter that resamples from the rate they name may be gigabytes."""
    low, high = _RATES
    if not low <= rate <= high:
        raise SampleError(f"its header says {rate:,} samples a second; sounds have {low} to {high:,}")
    if max(rate, to) // math.gcd(rate, to) > _LARGEST_FACTOR:
        raise SampleError(f"its header says {rate:,} samples a second, which cannot be resampled to {to:,}")


def audio_length(path: Path, rate: int, seconds: float) -> int:
    """How many samples `read_audio` will give of `seconds` at `rate` Hz, from the file's header alone.

    Raises `SampleError` as it does.
    """
    import soundfile

    file = _file(path)
    _need_whole_wav(file, path)
    try:
        header = soundfile.info(str(file) if isinstance(file, Path) else file)
    except Exception as error:
        raise SampleError(_reason(error, path)) from None
    _check_rate(header.samplerate, rate)
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
    """Libsndfile reads a WAV file that was cut off as a shorter sound; here that is an error."""
    with io.BytesIO(file.getbuffer()) if isinstance(file, io.BytesIO) else open(file, "rb") as stream:
        start = stream.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return
        size = stream.seek(0, 2)
        at = 12
        for _ in range(_MOST_CHUNKS):
            if at + 8 > size:
                return
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
    raise SampleError(f"{path}: holds no sound in its first {_MOST_CHUNKS} chunks")


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError):
        return f"{path}: {NO_MEMORY}"
    said = " ".join(str(error).split()) or type(error).__name__
    return said if str(path) in said else f"{path}: {said}"
