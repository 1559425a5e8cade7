"""What people hand over, brought to one form: samples one by one, with labels and splits if there are some.

Shapes: N samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from uml_cache import InputError

_COLUMNS = {"image": ("image", "img", "picture", "path", "file"), "audio": ("audio", "sound", "path", "file"),
            "text": ("text", "sentence", "caption", "description")}  # fmt: skip
_LABELS = ("label", "labels", "class", "target", "fine_label")


@dataclass(frozen=True, eq=False)
class Given:
    """N samples. `labels` and `splits` are N cells, or None; `names` is what numbers as labels mean."""

    samples: Sequence[Any]
    labels: Sequence[Any] | None = None
    splits: Sequence[Any] | None = None
    names: tuple[str, ...] | None = None


def take(data: Any, modality: str, *, column: str | None = None, label: str | None = None) -> Given:
    """The samples of a collection: list, array, tensor, pandas column or table, `datasets`, torch `Dataset`.

    Args:
        modality: `image`, `text`, `audio` or `array`, as the encoder takes.
        column, label: columns of a table; None: by their names and types.

    Raises:
        InputError: something that holds no samples of this modality; it says what was expected.
    """
    kind = type(data).__module__.partition(".")[0]
    if kind == "datasets":
        return _of_datasets(data, modality, column, label)
    if kind == "pandas" and hasattr(data, "columns"):
        names = list(data.columns)
        wanted = _column(names, names, _COLUMNS.get(modality, ()), column, "column", modality)
        found = label or next((name for name in names if str(name).lower() in _LABELS), None)
        if label is not None and label not in names:
            raise InputError(
                f"labels={label!r}: there is no such column; there are {', '.join(map(str, names))}"
            )
        return Given(data[wanted].tolist(), None if found is None else data[found].tolist())
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.utils.data.Dataset):
        return _of_torch(data, modality)
    if isinstance(data, str | bytes):
        raise InputError(
            f"{data[:40]!r} is one sample; give a list of samples, or the path of a folder or table"
        )
    if isinstance(data, Mapping):
        raise InputError(
            f"a {type(data).__name__} is no collection of samples; give a list, an array, a pandas column, a "
            "data set of `datasets` or of torch"
        )
    if hasattr(data, "tolist") and getattr(data, "ndim", 1) == 1:
        data = data.tolist()
    if not isinstance(data, Iterable):
        raise InputError(f"a {type(data).__name__} holds no samples; give a list of them")
    samples: Any = data if hasattr(data, "__getitem__") and hasattr(data, "__len__") else list(data)
    if not len(samples):
        raise InputError("the collection of samples is empty")
    return Given(samples)


def _of_torch(data: Any, modality: str) -> Given:
    """A map-style data set, whose items are samples, (sample, label), or for sounds (array, rate, label)."""
    if not hasattr(data, "__len__"):
        raise InputError("an iterable data set of torch has no length; give list(dataset)")
    if not len(data):
        raise InputError("the data set is empty")
    names = getattr(data, "classes", None)
    names = tuple(map(str, names)) if isinstance(names, list | tuple) and names else None
    wide = 2 if modality == "audio" else 1
    first = data[0]
    if isinstance(first, Mapping):
        sample = _column(list(first), list(first), _COLUMNS.get(modality, ()), None, "key", modality)
        label = next((key for key in first if str(key).lower() in _LABELS), None)
        labels = None if label is None else [_plain(data[row][label]) for row in range(len(data))]
        return Given(_Items(data, lambda item: item[sample]), labels, None, names)
    if not isinstance(first, tuple | list):
        return Given(_Items(data, lambda item: item), None, None, names)

    def sample_of(item: Any) -> Any:
        return item[0] if wide == 1 else (item[0], item[1])

    labels = None
    if len(first) > wide:
        told = getattr(data, "targets", None)
        labels = (
            [_plain(one) for one in told]
            if told is not None and len(told) == len(data)
            else [_plain(data[row][wide]) for row in range(len(data))]
        )
    return Given(_Items(data, sample_of), labels, None, names)


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


class _Items(Sequence[Any]):
    """The samples of a data set, taken when they are asked for."""

    def __init__(self, data: Any, part: Callable[[Any], Any]) -> None:
        self._data, self._part = data, part

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: Any) -> Any:
        return self._part(self._data[row])


class _Joined(Sequence[Any]):
    """Several collections one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: Any) -> Any:
        at = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[at][row - (int(self._ends[at - 1]) if at else 0)]


def _of_datasets(data: Any, modality: str, column: str | None, label: str | None) -> Given:
    """A `Dataset`, or the splits of a `DatasetDict`, of Hugging Face `datasets`."""
    if isinstance(data, Mapping):
        parts = [_of_datasets(part, modality, column, label) for part in data.values()]
        listed = {part.names for part in parts}
        if len(listed) > 1:
            raise InputError(
                f"the splits {', '.join(map(str, data))} list different classes; give them one class list "
                "first"
            )
        each = [p.labels if p.labels is not None else [None] * len(p.samples) for p in parts]
        every = None if all(p.labels is None for p in parts) else list(chain.from_iterable(each))
        splits = [name for name, part in zip(data, parts, strict=True) for _ in range(len(part.samples))]
        return Given(_Joined([part.samples for part in parts]), every, splits, listed.pop())
    if not hasattr(data, "__len__"):
        raise InputError("a streamed data set has no length; load it, or give list(dataset.take(n))")
    features = data.features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    wanted = {"image": "Image", "audio": "Audio"}.get(modality)
    fitting = [name for name, kind in kinds.items() if kind == wanted]
    if modality == "text":
        fitting = [
            name for name, f in features.items() if getattr(f, "dtype", None) in ("string", "large_string")
        ]
    chosen = _column(list(features), fitting, _COLUMNS.get(modality, ()), column, "column", modality)
    coded = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    found = label or next((name for name in features if name.lower() in _LABELS), None)
    if found is None and len(coded) == 1:
        found = coded[0]
    if label is not None and label not in features:
        raise InputError(f"labels={label!r}: there is no such column; there are {', '.join(features)}")
    names = tuple(features[found].names) if found in coded else None
    labels = None if found is None else list(data[found])
    if labels is not None and names is not None:
        labels = [None if one is None or one < 0 else one for one in labels]
    if kinds[chosen] in ("Image", "Audio"):
        # Not decoded here: the reader does, and bytes are told apart faster than pixels.
        plain = data.cast_column(chosen, type(features[chosen])(decode=False))
        return Given(_Items(plain, lambda item: item[chosen]), labels, None, names)
    return Given(list(data[chosen]), labels, None, names)


def _column(
    every: Sequence[Any],
    fitting: Sequence[Any],
    usual: Sequence[str],
    asked: str | None,
    what: str,
    modality: str,
) -> Any:
    """The column of the samples: the one asked for, else a usual name, else the only one that fits."""
    there = ", ".join(map(str, every))
    if asked is not None:
        if asked not in every:
            raise InputError(f"column={asked!r}: there is no such {what}; there are {there}")
        return asked
    by_name = [name for name in fitting if str(name).lower() in usual]
    if by_name:
        return min(by_name, key=lambda name: usual.index(str(name).lower()))
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(f"which {what} holds the {modality}s? say column=…; there are {there}")
