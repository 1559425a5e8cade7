"""A repository of the Hugging Face hub as a place: `hf://ORG/NAME` (models), `hf://datasets/ORG/NAME`.

A push is one commit, so that all of it appears or nothing does. A pull reads one commit, whatever is pushed
meanwhile. Who may read and write is the hub's business: `hf auth login`, or the variable HF_TOKEN.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.sharing.card import CARD
from uml_cache.sharing.kinds import Kind
from uml_cache.sharing.share_list import LIST

_PREFIX = re.compile(r"^hf:/+")  # pathlib makes one slash of two
_REPOSITORY = re.compile(r"(datasets/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)", re.ASCII)
_OWN = {".gitattributes", CARD}  # what a new repository may have
_AT_ONCE = 8


def is_hub(place: object) -> bool:
    """Whether a text, or a path made of one, names a repository of the hub."""
    return isinstance(place, str | os.PathLike) and _PREFIX.match(os.fspath(place)) is not None


class HubPlace:
    """A repository of the hub.

    Raises:
        InputError: the text names none.
    """

    def __init__(self, text: str) -> None:
        found = _REPOSITORY.fullmatch(_PREFIX.sub("", text).rstrip("/"))
        if found is None:
            raise InputError(
                f"{text} names no repository; expected hf://ORG/NAME for a model, or hf://datasets/ORG/NAME"
            )
        self._type = "dataset" if found[1] else "model"
        self._repository = found[2]
        self._text = f"hf://{found[1] or ''}{found[2]}"

    def __str__(self) -> str:
        return self._text

    def check(self, kind: Kind) -> None:
        """Raise `InputError` where things of this kind belong into repositories of the other type."""
        if kind.hub != self._type:
            right = f"hf://{'datasets/' if kind.hub == 'dataset' else ''}{self._repository}"
            raise InputError(f"{self} is a {self._type}'s repository, and a {kind.name} goes to {right}")

    @cached_property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(library_name="uml")

    @cached_property
    def _state(self) -> tuple[str, frozenset[str]] | None:
        """The commit that is read, and the files that it has; None where there is no repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with _reported(self):
            try:
                info = self._api.repo_info(self._repository, repo_type=self._type)
            except RepositoryNotFoundError:
                return None
        return str(info.sha), frozenset(file.rfilename for file in info.siblings or ())

    def listed(self) -> bytes | None:
        """The list that is in the repository, or None."""
        if self._state is None or LIST not in self._state[1]:
            return None
        with TemporaryDirectory() as folder:
            return (self.root([LIST], Path(folder)) / LIST).read_bytes()

    def root(self, names: Sequence[str], scratch: Path) -> Path:
        """Fetch the files of these names below `scratch`; those that the repository lacks are not there."""
        assert self._state is not None, "nothing is read from a repository that is not there"
        commit, there = self._state
        with _reported(self), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: self._fetch(name, commit, scratch), [n for n in names if n in there]))
        return scratch

    def _fetch(self, name: str, commit: str, scratch: Path) -> None:
        self._api.hf_hub_download(
            self._repository, name, repo_type=self._type, revision=commit, local_dir=scratch
        )

    def put(
        self,
        copies: Iterable[tuple[str, bytes]],
        card: bytes,
        listed: bytes,
        progress: Callable[[int], Any],
    ) -> None:
        """Commit the files, the card and the list at once. A repository that is made for it is private.

        Raises:
            InputError: the repository has other files.
        """
        from huggingface_hub import CommitOperationAdd

        if self._state is not None and (others := sorted(self._state[1] - _OWN)):
            raise InputError(f"{self} is not empty (it has {others[0]}); nothing was written: name a new one")
        with TemporaryDirectory() as folder:
            operations = []
            for name, data in copies:
                path = Path(folder).joinpath(*PurePosixPath(name).parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                operations.append(CommitOperationAdd(name, path))
            operations += [CommitOperationAdd(CARD, card), CommitOperationAdd(LIST, listed)]
            with _reported(self):
                if self._state is None:
                    self._api.create_repo(self._repository, repo_type=self._type, private=True, exist_ok=True)
                self._api.create_commit(
                    self._repository,
                    operations,
                    commit_message="Share with uml push",
                    repo_type=self._type,
                    parent_commit=None if self._state is None else self._state[0],
                )
            progress(len(operations))


@contextlib.contextmanager
def _reported(place: HubPlace) -> Iterator[None]:
    """What the hub says, in one line."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # of the HTTP library that the hub's is built on, whichever that is
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except OfflineModeIsEnabled:
        raise InputError(f"{place}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise InputError(f"{place}: the hub refuses this ({status}); run `hf auth login` first") from None
        raise WorkError(f"{place}: the hub failed ({_said(error)}); run the same command again") from None
    except RuntimeError as error:  # an upload that failed, with its reason behind
        said = _said(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        raise WorkError(f"{place}: the hub failed ({said}); run the same command again") from None
    except (HTTPError, LocalEntryNotFoundError) as error:
        raise WorkError(
            f"{place}: the hub cannot be reached ({_said(error)}); run the same command again"
        ) from None
    except ValueError as error:  # of the library itself: a card that the hub does not take, such as a licence
        raise InputError(f"{place}: the hub does not take it ({_said(error)})") from None


def _said(error: Exception) -> str:
    said = " ".join((getattr(error, "server_message", None) or str(error)).split())
    return said[:200] or type(error).__name__
