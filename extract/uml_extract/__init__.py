"""From files to feature stores: readers, frozen encoders and the pipeline that joins them.

Names are imported when they are first used, so that `uml --help` does not pay for numpy or torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_extract.pipeline import Extracted, extract
    from uml_extract.readers import Sound, read_audio, read_for, read_image, read_sample, read_text
    from uml_extract.readers.prefetch import Reading, reader_count
    from uml_extract.registry import list_encoders, load_encoder
    from uml_extract.spec import Encoded, Encoder, EncoderOptions, EncoderSpec, Registered, SampleError
    from uml_extract.trainable import Trainable, load_trainable

_HOME = {
    "Encoded": "spec",
    "Encoder": "spec",
    "EncoderOptions": "spec",
    "EncoderSpec": "spec",
    "Extracted": "pipeline",
    "Reading": "readers.prefetch",
    "Registered": "spec",
    "SampleError": "spec",
    "Sound": "readers",
    "Trainable": "trainable",
    "extract": "pipeline",
    "list_encoders": "registry",
    "load_encoder": "registry",
    "load_trainable": "trainable",
    "read_audio": "readers",
    "read_for": "readers",
    "read_image": "readers",
    "read_sample": "readers",
    "read_text": "readers",
    "reader_count": "readers.prefetch",
}

__all__ = [
    "Encoded",
    "Encoder",
    "EncoderOptions",
    "EncoderSpec",
    "Extracted",
    "Reading",
    "Registered",
    "SampleError",
    "Sound",
    "Trainable",
    "extract",
    "list_encoders",
    "load_encoder",
    "load_trainable",
    "read_audio",
    "read_for",
    "read_image",
    "read_sample",
    "read_text",
    "reader_count",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
