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

from uml.columns import Asked, role_columns
from uml_cache import InputError

_COLUMNS = {"image": ("image", "img", "picture", "path", "file"), "audio": ("audio", "sound", "path", "file"),
            "text": ("text", "sentence", "caption", "description")}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Given:
    """N samples. `labels`, `splits` and `groups` are N cells, or None; `names` is what numbers as labels
    mean, `remarks` say what was chosen."""

    samples: Sequence[Any]
    labels: Sequence[Any] | None = None
    splits: Sequence[Any] | None = None
    names: tuple[str, ...] | None = None
    groups: Sequence[Any] | None = None
    remarks: tuple[str, ...] = ()


def take(
    data: Any, modality: str, *, column: str | None = None, wanted: Mapping[str, Asked] | None = None
) -> Given:
    """The samples of a collection: list, array, tensor, pandas column or table, `datasets`, torch `Dataset`.

    Args:
        modality: `image`, `text`, `audio` or `array`, as the encoder takes.
        column: the column of the samples in a table; None: by names and types.
        wanted: columns of labels, splits and groups by role, as `uml.columns.asked` gives them.

    Raises:
        InputError: something that holds no samples of this modality; it says what was expected.
    """
    wanted = wanted or {}
    kind = type(data).__module__.partition(".")[0]
    if kind == "datasets":
        return _of_datasets(data, modality, column, wanted)
    if kind == "pandas" and hasattr(data, "columns"):
        remarks: list[str] = []
        names = list(data.columns)
        chosen = _column(names, names, _COLUMNS.get(modality, ()), column, "column", modality, remarks)
        found = role_columns([name for name in names if name != chosen], wanted, remarks)
        cells = {role: None if name is None else data[name].tolist() for role, name in found.items()}
        return Given(
            data[chosen].tolist(), cells["label"], cells["split"], None, cells["group"], tuple(remarks)
        )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.utils.data.Dataset):
        return _of_torch(data, modality, wanted)
    if isinstance(data, str | bytes):
        raise InputError(
            f"{data[:40]!r} is one sample; give a list of samples, or the path of a folder or table"
        )
    if isinstance(data, Mapping | set | frozenset):
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


def _of_torch(data: Any, modality: str, wanted: Mapping[str, Asked]) -> Given:
    """A map-style data set, whose items are samples, (sample, label), or for sounds (array, rate, label)."""
    if not hasattr(data, "__len__"):
        raise InputError("an iterable data set of torch has no length; give list(dataset)")
    if not len(data):
        raise InputError("the data set is empty")
    wide = 2 if modality == "audio" else 1
    first = data[0]
    changed = _changes_labels(data)
    names = None if changed else getattr(data, "classes", None)
    names = tuple(map(str, names)) if isinstance(names, list | tuple) and names else None
    if isinstance(first, Mapping):
        remarks: list[str] = []
        sample = _column(list(first), list(first), _COLUMNS.get(modality, ()), None, "key", modality, remarks)
        found = role_columns([key for key in first if key != sample], wanted, remarks)
        cells = {
            role: None if key is None else [_plain(data[row][key]) for row in range(len(data))]
            for role, key in found.items()
        }
        samples = _Items(data, lambda item: item[sample])
        return Given(samples, cells["label"], cells["split"], names, cells["group"], tuple(remarks))
    if not isinstance(first, tuple | list):
        return Given(_Items(data, lambda item: item), None, None, names)

    def sample_of(item: Any) -> Any:
        return item[0] if wide == 1 else (item[0], item[1])

    if len(first) <= wide or wanted.get("label") is False:
        return Given(_Items(data, sample_of), None, None, names)
    told = getattr(data, "targets", None)
    told = None if changed or told is None or len(told) != len(data) else [_plain(one) for one in told]
    some = {0: _plain(first[wide]), len(data) - 1: _plain(data[len(data) - 1][wide])}
    if told is None or any(told[row] != label for row, label in some.items()):
        told = [_plain(data[row][wide]) for row in range(len(data))]
    said = ("the data set changes its labels: its class names are not used",) if changed else ()
    return Given(_Items(data, sample_of), told, None, names, None, said)


def _changes_labels(data: Any) -> bool:
    """Whether a data set of torchvision gives other labels than its `targets`, which its `classes` name."""
    joint = getattr(data, "transforms", None)
    plain = type(joint).__name__ == "StandardTransform" and getattr(joint, "target_transform", None) is None
    return getattr(data, "target_transform", None) is not None or not (joint is None or plain)


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


def _of_datasets(data: Any, modality: str, column: str | None, wanted: Mapping[str, Asked]) -> Given:
    """A `Dataset`, or the splits of a `DatasetDict`, of Hugging Face `datasets`."""
    if isinstance(data, Mapping):
        parts = [_of_datasets(part, modality, column, {**wanted, "split": False}) for part in data.values()]
        listed = {part.names for part in parts}
        if len(listed) > 1:
            raise InputError(
                f"the splits {', '.join(map(str, data))} list different classes; give them one class list "
                "first"
            )
        every = _chained([p.labels for p in parts], parts)
        groups = _chained([p.groups for p in parts], parts)
        said = tuple(dict.fromkeys(chain.from_iterable(p.remarks for p in parts)))
        splits = [name for name, part in zip(data, parts, strict=True) for _ in range(len(part.samples))]
        samples = _Joined([part.samples for part in parts])
        return Given(samples, every, splits, listed.pop(), groups, said)
    if not hasattr(data, "__len__"):
        raise InputError("a streamed data set has no length; load it, or give list(dataset.take(n))")
    features = data.features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    medium = {"image": "Image", "audio": "Audio"}.get(modality)
    fitting = [name for name, kind in kinds.items() if kind == medium]
    if modality == "text":
        fitting = [
            name for name, f in features.items() if getattr(f, "dtype", None) in ("string", "large_string")
        ]
    remarks: list[str] = []
    chosen = _column(list(features), fitting, _COLUMNS.get(modality, ()), column, "column", modality, remarks)
    coded = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    roles = role_columns([name for name in features if name != chosen], wanted, remarks)
    found = roles["label"]
    if found is None and len(coded) == 1 and wanted.get("label") is None:
        found = coded[0]
    names = tuple(features[found].names) if found in coded else None
    labels = None if found is None else list(data[found])
    if labels is not None and names is not None:
        labels = [None if one is None or one < 0 else one for one in labels]
    cells = {role: None if roles[role] is None else list(data[roles[role]]) for role in ("split", "group")}
    split_names = getattr(features[roles["split"]], "names", None) if roles["split"] is not None else None
    if split_names is not None and cells["split"] is not None:
        cells["split"] = [None if one is None or one < 0 else split_names[one] for one in cells["split"]]
    rest = (cells["split"], names, cells["group"], tuple(remarks))
    if kinds[chosen] in ("Image", "Audio"):
        # Not decoded here: the reader does, and bytes are told apart faster than pixels.
        plain = data.cast_column(chosen, type(features[chosen])(decode=False))
        return Given(_Items(plain, lambda item: item[chosen]), labels, *rest)
    return Given(list(data[chosen]), labels, *rest)


def _chained(cells: Sequence[Sequence[Any] | None], parts: Sequence[Given]) -> list[Any] | None:
    """The cells of all parts, None where a part has none; None where no part has any."""
    if all(one is None for one in cells):
        return None
    each = zip(cells, parts, strict=True)
    return list(chain.from_iterable([None] * len(p.samples) if one is None else one for one, p in each))


def _column(
    every: Sequence[Any],
    fitting: Sequence[Any],
    usual: Sequence[str],
    asked: str | None,
    what: str,
    modality: str,
    remarks: list[str],
) -> Any:
    """The column of the samples: the one asked for, else a usual name, else the only one that fits."""
    there = ", ".join(map(str, every))
    if asked is not None:
        if asked not in every:
            raise InputError(f"column={asked!r}: there is no such {what}; there are {there}")
        return asked
    by_name = [name for name in fitting if str(name).lower() in usual]
    if by_name:
        first, *others = sorted(by_name, key=lambda name: usual.index(str(name).lower()))
        if others:
            passed = ", ".join(map(repr, others))
            remarks.append(
                f"using {what} {first!r} for the {modality}s, not {passed}; column= chooses another"
            )
        return first
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(f"which {what} holds the {modality}s? say column=…; there are {there}")
