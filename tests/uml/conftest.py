"""A small fit that the tests of this folder share."""

from __future__ import annotations

import pytest

import uml
from small_world import pictures, sentences


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> uml.Result:
    """Pictures and sentences of three classes, fitted at 2 and 4 shots with two seeds."""
    folder = tmp_path_factory.mktemp("fitted")
    images, labels = pictures(20)
    texts, names = sentences(6)
    ours = uml.embed(images, "hog-color", labels=labels, cache=folder, progress=False)
    theirs = uml.embed(texts, "hashed-ngrams", labels=names, cache=folder, progress=False)
    return uml.fit(
        ours, aux={"text": theirs}, shots=[2, 4], seeds=2, methods="unimodal,unimodal-deep,uml",
        out=folder / "fit", progress=False,
    )  # fmt: skip
