"""From texts to token ids, the way the checkpoint was trained, whatever the library has lost on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uml_cache import InputError
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.sentence import PLAIN, Sentence

LONGEST = 2048  # tokens; models that take more would make one long text the whole batch's cost
_SPECIAL = 8  # at most so many special tokens are put around a text
_TOGETHER = 1024
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", *_SENTENCEPIECE)


class Tokens:
    """A checkpoint's tokenizer with its own special tokens; `padding` is the id that fills the batch."""

    def __init__(
        self, tokenizer: Any, longest: int, squeeze: str | None, digest: str, sentence: Sentence = PLAIN
    ) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._squeeze = squeeze
        self._sentence = sentence
        self._lock = threading.Lock()  # setting the truncation changes the tokenizer, so one text at a time
        padding = tokenizer.pad_token_id
        self.padding = int(padding if padding is not None else tokenizer.eos_token_id or 0)
        self.description = {
            "tokenizer": digest,
            "longest": longest,
            "padding": "right",
            "squeezed_whitespace": squeeze,
        }
        self.vocabulary = len(tokenizer)  # ids lie below it
        if sentence.prompt or sentence.lower:
            self.description |= {"prompt": sentence.prompt, "lower": sentence.lower}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut at the longest input."""
        given = self._given(texts)
        with self._lock:
            return self._tokenizer(
                given, truncation=True, max_length=self._longest, return_attention_mask=False
            )["input_ids"]

    def cut(self, texts: Sequence[str]) -> int:
        """How many texts have more tokens than the longest input."""
        # A token stands for one byte at least: most texts need no look.
        given = [text for text in self._given(texts) if len(text.encode()) + _SPECIAL > self._longest]
        found = 0
        for at in range(0, len(given), _TOGETHER):
            with self._lock:
                ids = self._tokenizer(
                    given[at : at + _TOGETHER], truncation=False, return_attention_mask=False, verbose=False
                )["input_ids"]
            found += sum(len(one) > self._longest for one in ids)
        return found

    def _given(self, texts: Sequence[str]) -> list[str]:
        own, squeeze = self._sentence, self._squeeze
        given = [own.prompt + (text.lower() if own.lower else text) for text in texts]
        return [_squeezed(text, squeeze) for text in given] if squeeze else given


def load_tokens(name: str, folder: Path, config: Any, sentence: Sentence = PLAIN) -> Tokens:
    """The tokenizer in a model's folder; `InputError` if there is none that can be loaded."""
    import transformers

    files = [folder / file for file in _FILES if (folder / file).is_file()]
    if not files:  # transformers would make up an empty vocabulary
        raise InputError(f"encoder {name}: {folder} holds no tokenizer (such as tokenizer.json or vocab.txt)")
    if (folder / "tokenizer_config.json").is_file():
        read_settings(name, folder / "tokenizer_config.json")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            padding_side="right",
            truncation_side="right",
        )
    except Exception as error:  # tokenizers raise nearly anything on missing or broken files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"encoder {name}: cannot load a tokenizer from {folder} ({first})") from None
    longest = min(LONGEST, int(tokenizer.model_max_length), sentence.longest or LONGEST)
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        # RoBERTa counts its positions from the padding id + 1
        offset = (config.pad_token_id or 0) + 1 if _counts_like_roberta(config.model_type) else 0
        longest = min(longest, int(positions) - offset)
    settings = [*files, folder / "tokenizer_config.json"]
    content = b"".join(file.read_bytes() for file in settings if file.is_file())
    digest = hashlib.sha256(content).hexdigest()
    return Tokens(tokenizer, longest, _squeezes_spaces(folder), digest, sentence)


def _counts_like_roberta(kind: str) -> bool:
    return "roberta" in kind or kind in ("clap_text_model", "mpnet", "camembert", "esm")


def _squeezes_spaces(folder: Path) -> str | None:
    """Which whitespace the checkpoint's SentencePiece model drops where it is extra (`all`, `spaces`, None).

    transformers 5 no longer does that part of the model's normalisation.
    """
    for file in _SENTENCEPIECE:
        if (folder / file).is_file():
            import sentencepiece

            pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / file))
            plain = pieces.encode("a b")
            if pieces.encode("  a \n b ") == plain:
                return "all"
            return "spaces" if pieces.encode("  a  b ") == plain else None
    return None


def _squeezed(text: str, which: str) -> str:
    return " ".join(text.split() if which == "all" else [piece for piece in text.split(" ") if piece])
