"""Samples as a page shows them: small pictures, the beginnings of texts, sounds to play.

Everything is put into the page itself, so there is a limit to how much is shown: `BUDGET`.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError
from uml_extract import SampleError, read_sample, samples_of
from uml_train import recorded_store

if TYPE_CHECKING:
    from uml_extract import Sound
    from uml_manifests import Manifest
    from uml_train import Run

BUDGET = 6_000_000
"""Bytes of samples on one page; a page of this size opens at once and fits an e-mail."""
SHOWN = ("image", "text", "audio")
_SIDE = 112  # pixels
_LETTERS = 160
_RATE, _SECONDS = 16_000, 3.0


@dataclass(frozen=True)
class Shown:
    """A sample on the page: `image` and `audio` have an address that holds them, `text` its words."""

    kind: str
    data: str
    name: str


class Budget:
    """How many bytes a page may still take."""

    def __init__(self, most: int = BUDGET) -> None:
        self.left, self.refused = most, 0

    def take(self, size: int) -> bool:
        """Whether so many bytes are left, which are taken then."""
        if size > self.left:
            self.refused += 1
            return False
        self.left -= size
        return True


class Samples:
    """The samples behind a run's stores, by role (`image`, `text`), as far as they can be read.

    Args:
        given: manifests of roles whose samples are in memory, row by row as in the stores.
    """

    def __init__(self, run: Run, budget: Budget, given: Mapping[str, Manifest] | None = None) -> None:
        self._run, self._budget = run, budget
        self._known: dict[str, Manifest | None] = {}
        self._given = given or {}
        self._shown: dict[tuple[str, int], Shown | None] = {}
        self.missing: dict[str, str] = {}

    def manifest(self, role: str) -> Manifest | None:
        """The samples of a role; None where they cannot be found, and `missing` says why.

        Raises:
            InputError: the run has no store of the role.
        """
        if role not in self._known:
            self._known[role] = None
            try:
                found = self._found(role)
                if found.modality not in SHOWN:
                    raise InputError("they are arrays")
                self._known[role] = found
            except InputError as error:
                self.missing[role] = str(error)
        return self._known[role]

    def _found(self, role: str) -> Manifest:
        if role in self._given:
            return self._given[role]
        if role not in self._run.config["stores"]:
            raise InputError("the run has no store of them")
        return samples_of(recorded_store(self._run, role, None))

    @cached_property
    def test_rows(self) -> list[int] | None:
        """The rows of the target's manifest that are tested on, in the order of the predictions."""
        manifest = self.manifest(self._run.config["target"])
        if manifest is None:
            return None
        place = {unicodedata.normalize("NFC", one): row for row, one in enumerate(manifest.ids)}
        try:
            rows = [place[unicodedata.normalize("NFC", one)] for one in self._run.splits["test"]]
        except (KeyError, InputError):
            return None
        return rows if len(rows) == len(self._run.test_labels) else None

    def show(self, role: str, row: int) -> Shown | None:
        """One sample; None where it cannot be read, or the page is full."""
        key = role, row
        if key not in self._shown:
            manifest = self.manifest(role)
            self._shown[key] = None if manifest is None else self._read(manifest, row)
        return self._shown[key]

    def _read(self, manifest: Manifest, row: int) -> Shown | None:
        try:
            sample = read_sample(manifest, row, rate=_RATE, seconds=_SECONDS, least_side=_SIDE)
        except (SampleError, OSError):
            return None
        data = _DATA[manifest.modality](sample)
        name = str(manifest.ids[row])
        return Shown(manifest.modality, data, name) if self._budget.take(len(data)) else None


def _picture(image: Any) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=74)
    return _address("image/jpeg", stream.getvalue())


def _snippet(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LETTERS else f"{words[:_LETTERS].rsplit(' ', 1)[0]} …"


def _sound(sound: Sound) -> str:
    """MP3, which every browser plays and which is a fifth as large; WAV where libsndfile has no encoder."""
    import soundfile

    samples = np.clip(sound.samples, -1.0, 1.0)
    stream = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(stream, samples, sound.rate, format="MP3")
        return _address("audio/mpeg", stream.getvalue())
    soundfile.write(stream, samples, sound.rate, format="WAV", subtype="PCM_16")
    return _address("audio/wav", stream.getvalue())


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


_DATA: dict[str, Callable[[Any], str]] = {"image": _picture, "text": _snippet, "audio": _sound}
