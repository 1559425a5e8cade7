"""From a manifest's row to a sample in memory: files and their parts, read ahead by threads or processes."""

from __future__ import annotations

from uml_extract.readers.rows import read_for, read_sample
from uml_extract.readers.samples import Sound, audio_length, read_audio, read_image, read_text

__all__ = ["Sound", "audio_length", "read_audio", "read_for", "read_image", "read_sample", "read_text"]
