"""Unpaired multimodal learning from Python: embed samples, fit with and without unpaired data, predict.

    import uml
    pictures = uml.embed(paths, encoder="dinov2_vits14", labels=names)
    texts = uml.embed(sentences, encoder="minilm_l6", labels=their_names)
    result = uml.fit(pictures, aux={"text": texts}, shots=[1, 4, 16], seeds=5)
    result.table()
    model = result.best()
    model.predict(new_paths)

What the package offers is listed in `__init__.pyi`; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

_attached, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("uml-cache")
    return _attached(name)
