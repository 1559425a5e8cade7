"""Models of the Hugging Face hub: from the local cache, else, if the hub answers at once, by download."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from uml_cache import InputError
from uml_extract.encoders.weights import WEIGHT_NAMES, weight_files


class NoCheckpoint(InputError):
    """The checkpoint is not on this machine and cannot be had from the hub now."""


PATIENCE = 3.0  # seconds until the hub counts as out of reach
_BUILT_IN = "pixels, hog-color, hashed-ngrams, log-mel"


@dataclass(frozen=True)
class HubModel:
    """A model's local folder (a snapshot in the hub cache), the commit it is of, and its weights' file."""

    folder: Path
    revision: str | None
    weights: Path | None = None


def cached_model(
    repository: str,
    *,
    weights: bool = True,
    config: str | None = "config.json",
    names: Sequence[str] = WEIGHT_NAMES,
) -> HubModel | None:
    """The model in the local cache, or None if what is asked for is not all there. No network is used.

    `repository` may name a commit, branch or tag: `org/name@revision`. `names` are the weight files that
    will do, the best first; `config` is a file that must lie beside them.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = repository.partition("@")
    for name in names if weights else (config or "tokenizer.json",):
        try:
            found = try_to_load_from_cache(
                repository, name, cache_dir=constants.HF_HUB_CACHE, revision=revision or None
            )
        except HFValidationError:
            return None
        if not isinstance(found, str):
            continue
        folder = Path(found).parent
        if config and not (folder / config).is_file():
            continue
        if not weights:
            return HubModel(folder, folder.name)
        with contextlib.suppress(InputError):  # an index whose shards are not all there
            weight_files(Path(found) if names is not WEIGHT_NAMES else folder)
            return HubModel(folder, folder.name, Path(found))
    return None


def hub_model(
    encoder: str,
    repository: str,
    *,
    weights: bool = True,
    config: str | None = "config.json",
    names: Sequence[str] = WEIGHT_NAMES,
) -> HubModel:
    """The model in the local cache, downloaded first where needed; arguments as of `cached_model`.

    Raises `InputError`, within seconds, when it is not there and the hub is out of reach or not allowed
    (`HF_HUB_OFFLINE`), has no such model, or asks for a login.
    """
    found = cached_model(repository, weights=weights, config=config, names=names)
    if found is None:
        from huggingface_hub import is_offline_mode

        if is_offline_mode():
            raise _absent(encoder, repository, "HF_HUB_OFFLINE is set")
        if not hub_answers():
            raise _absent(encoder, repository, "the hub cannot be reached")
        _download(encoder, repository, weights=weights, names=names)
        found = cached_model(repository, weights=weights, config=config, names=names)
    if found is None:
        raise InputError(f"encoder {encoder}: {repository} on the hub has no weights that can be used")
    return found


def _absent(encoder: str, repository: str, why: str) -> NoCheckpoint:
    return NoCheckpoint(
        f"encoder {encoder}: the checkpoint {repository} is not in the local cache and {why}; give it with "
        f"`--weights PATH`, or use a built-in encoder ({_BUILT_IN})"
    )


def hub_answers() -> bool:
    """Whether the hub answers anything within `PATIENCE`; name resolution included, which has no timeout."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    answers = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            answers.append(get_session().head(constants.ENDPOINT, timeout=PATIENCE))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answers)


def _download(encoder: str, repository: str, *, weights: bool, names: Sequence[str]) -> None:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    repository, _, revision = repository.partition("@")
    patterns = ["*.json", "*.txt", "*.model"]
    try:
        files = list_repo_files(repository, revision=revision or None)
        if weights and names is not WEIGHT_NAMES:
            patterns += [name for name in names if name in files][:1]
        elif weights:
            safe = any(fnmatch(name, "model*.safetensors") for name in files)
            patterns.append("model*.safetensors" if safe else "pytorch_model*.bin")
        # Folders hold other formats of the weights; numbered ones are sentence-transformers' modules.
        nested = [name for name in files if "/" in name and not name[0].isdigit()]
        snapshot_download(
            repository, revision=revision or None, allow_patterns=patterns, ignore_patterns=nested
        )
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"encoder {encoder}: the hub has no model {repository!r}, or it needs a login (`hf auth login`)"
        ) from None
    except HfHubHTTPError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"encoder {encoder}: the hub refused {repository}: {first}") from None
