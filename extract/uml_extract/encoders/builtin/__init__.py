"""The encoders that need no weights and no network: real baselines, and what the demo and the tests use."""

from __future__ import annotations

from uml_extract.encoders.builtin.identity import IDENTITY_SPEC, load_identity
from uml_extract.encoders.builtin.pictures import HOG_SPEC, PIXELS_SPEC, load_hog_color, load_pixels
from uml_extract.encoders.builtin.sounds import LOG_MEL_SPEC, load_log_mel
from uml_extract.encoders.builtin.token_ids import WORD_IDS
from uml_extract.encoders.builtin.words import NGRAMS_SPEC, load_hashed_ngrams
from uml_extract.spec import Registered

ENCODERS: dict[str, Registered] = {
    entry.spec.name: entry
    for entry in (
        Registered(PIXELS_SPEC, load_pixels, "the picture at 32×32, flattened; patches as tokens"),
        Registered(HOG_SPEC, load_hog_color, "edges by orientation and place, colours by quadrant"),
        Registered(NGRAMS_SPEC, load_hashed_ngrams, "words, word pairs and pieces of words, hashed"),
        WORD_IDS,
        Registered(LOG_MEL_SPEC, load_log_mel, "energy in 64 bands: mean and spread over time"),
        Registered(
            IDENTITY_SPEC, load_identity, "features that exist already (.npy, .npz, HDF5), as they are"
        ),
    )
}
BY_MODALITY = {"image": "hog-color", "text": "hashed-ngrams", "audio": "log-mel"}
