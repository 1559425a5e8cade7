"""Models of the Hugging Face hub: from the local cache, else, if the hub answers at once, by download."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path

from uml_cache.errors import InputError
from uml_extract.weights import WEIGHT_NAMES, weight_files

PATIENCE = 3.0  # seconds until the hub counts as out of reach
_BUILT_IN = "pixels, hog-color, hashed-ngrams, log-mel"


@dataclass(frozen=True)
class HubModel:
    """A model's local folder (a snapshot in the hub cache) and the commit it is of."""

    folder: Path
    revision: str | None


def cached_model(repository: str, *, weights: bool = True, config: bool = True) -> HubModel | None:
    """The model in the local cache, or None if what is asked for is not all there. No network is used."""
    from huggingface_hub import constants, try_to_load_from_cache

    names = WEIGHT_NAMES if weights else ("config.json",)
    for name in names:
        found = try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE)
        if not isinstance(found, str):
            continue
        folder = Path(found).parent
        if config and not (folder / "config.json").is_file():
            continue
        with contextlib.suppress(InputError):  # an index whose shards are not all there
            if weights:
                weight_files(folder)
            return HubModel(folder, folder.name)
    return None


def hub_model(encoder: str, repository: str, *, weights: bool = True, config: bool = True) -> HubModel:
    """The model in the local cache, downloaded first where needed.

    Raises `InputError`, within seconds, when it is not there and the hub is out of reach or not allowed
    (`HF_HUB_OFFLINE`), or has no such model.
    """
    found = cached_model(repository, weights=weights, config=config)
    if found is None:
        from huggingface_hub import is_offline_mode

        if is_offline_mode():
            raise _absent(encoder, repository, "HF_HUB_OFFLINE is set")
        if not _reachable():
            raise _absent(encoder, repository, "the hub cannot be reached")
        _download(encoder, repository, weights=weights)
        found = cached_model(repository, weights=weights, config=config)
    if found is None:
        raise InputError(f"encoder {encoder}: {repository} on the hub has no weights that can be used")
    return found


def _absent(encoder: str, repository: str, why: str) -> InputError:
    return InputError(
        f"encoder {encoder}: the checkpoint {repository} is not in the local cache and {why}; give it with "
        f"`--weights PATH`, or use a built-in encoder ({_BUILT_IN})"
    )


def _reachable() -> bool:
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


def _download(encoder: str, repository: str, *, weights: bool) -> None:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    patterns = ["*.json", "*.txt", "*.model"]
    try:
        files = list_repo_files(repository)
        if weights:
            safe = any(name.endswith(".safetensors") and "/" not in name for name in files)
            patterns.append("*.safetensors" if safe else "pytorch_model*.bin")
        nested = [name for name in files if "/" in name]  # other formats of the same weights
        snapshot_download(repository, allow_patterns=patterns, ignore_patterns=nested)
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"encoder {encoder}: the hub has no model {repository!r}, or it needs a login (`hf auth login`)"
        ) from None
    except HfHubHTTPError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"encoder {encoder}: the hub refused {repository}: {first}") from None
