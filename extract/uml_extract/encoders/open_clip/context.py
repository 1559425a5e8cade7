"""Token ids for open_clip's text towers: a fixed context, filled behind the text's own tokens.

Shapes: C the context length.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

from uml_cache import InputError
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.hub import hub_model

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model")
TOKENIZER_FILES = (*_FILES, "tokenizer_config.json", "special_tokens_map.json")


class OwnTokens:
    """A model's tokenizer, one text at a time."""

    def __init__(self, tokenizer: Any, digest: str) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # both kinds keep state while they work
        self._simple = isinstance(tokenizer, SimpleTokenizer)
        self.description = {"tokenizer": digest, "longest": tokenizer.context_length, "padding": "context"}

    def ids(self, text: str) -> np.ndarray:
        """(C,) int64."""
        with self._lock:
            return self._tokenizer([text])[0].numpy().astype(np.int64)

    def cut(self, texts: Sequence[str]) -> int:
        """How many texts have more tokens than the context takes."""
        context = int(self._tokenizer.context_length)
        found = 0
        for text in texts:
            longest = len(text.encode()) + 2  # a token stands for one byte at least; start and end
            if longest > context:
                with self._lock:
                    ids = self._tokenizer([text], context_length=longest)[0].numpy()
                found += self.length(ids) > context
        return found

    def length(self, ids: np.ndarray) -> int:
        """How many of the ids (L,) int64 are the text's own, start and end tokens included."""
        if self._simple:  # the end token has the highest id; the filling is 0, which is also "!"
            return int(ids.argmax()) + 1
        inner = self._tokenizer.tokenizer
        filling = inner.pad_token_id
        own = np.flatnonzero(ids != filling)
        length = int(own[-1]) + 1 if len(own) else 0
        ends_with_filling = filling == inner.eos_token_id
        return min(length + ends_with_filling, len(ids))


def load_own_tokens(name: str, config: dict[str, Any], folder: Path | None) -> OwnTokens:
    """The tokenizer a model's configuration asks for; CLIP's own is part of open_clip.

    Raises:
        InputError: the configuration makes no tokenizer, or asks for what is refused.
    """
    text = config["text_cfg"]
    length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    extra = _known_options(name, text.get("tokenizer_kwargs") or {})
    wanted = text.get("hf_tokenizer_name")
    if not wanted:
        return OwnTokens(_simple(name, length, extra), "open_clip")
    if folder is None or not any((folder / file).is_file() for file in _FILES):
        folder = hub_model(name, wanted, weights=False, config=None).folder
    try:
        if (folder / "tokenizer_config.json").is_file():
            read_settings(name, folder / "tokenizer_config.json")
        tokenizer = HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=text.get("tokenizer_mode"),
            local_files_only=True,
            trust_remote_code=False,
            **extra,
        )
    except InputError:
        raise
    except Exception as error:  # tokenizers raise nearly anything on missing or broken files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"encoder {name}: cannot load a tokenizer from {folder} ({first})") from None
    content = b"".join((folder / file).read_bytes() for file in _FILES if (folder / file).is_file())
    return OwnTokens(tokenizer, hashlib.sha256(content).hexdigest())


_OPTIONS: dict[str, type] = {
    "clean": str,
    "strip_sep_token": bool,
    "language": str,
    "reduction_mask": str,
    "additional_special_tokens": list,
}
"""What a configuration may say of its tokenizer; all else would reach transformers, or open files."""


def _known_options(name: str, given: Any) -> dict[str, Any]:
    for key, value in given.items() if isinstance(given, dict) else [("tokenizer_kwargs", given)]:
        if key not in _OPTIONS or not isinstance(value, _OPTIONS[key]):
            raise InputError(
                f"encoder {name}: its configuration gives the tokenizer {key} = {str(value)[:40]!r}, which "
                f"is refused (known: {', '.join(_OPTIONS)})"
            )
    return dict(given)


def _simple(name: str, length: Any, extra: dict[str, Any]) -> SimpleTokenizer:
    try:
        return SimpleTokenizer(context_length=length, **extra)
    except Exception as error:  # configurations of the hub may hold anything
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: its configuration does not make a tokenizer ({first})") from None
