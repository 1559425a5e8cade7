"""What `uml extract` is asked to do, checked."""

# Annotations are not postponed here: they hold the declarations, and those are values.

import os
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from uml_cache import InputError, Setting, Settings, at_least

_TABLE = "Columns of a table (CSV, JSON lines, tar, arrays, saved data set)"
_OUTSIDE = re.compile(r",(?![^\[\](){}]*[\])}])")  # commas outside brackets
_ENCODER, _WORK, _AGAIN = "Encoder", "Who does the work", "Unreadable and changed samples"


def _column(text: str) -> Setting:
    return Setting(text, group=_TABLE, metavar="COLUMN")


def max_errors(text: str) -> float:
    """`3` → 3 samples (int), `1%` → 0.01, a share (float). Raises `ValueError`."""
    if text.endswith("%"):
        return float(text[:-1]) / 100
    return int(text)


def _is_allowance(text: str) -> bool:
    try:
        found = max_errors(text)
    except ValueError:
        return False
    return found >= 0 and (isinstance(found, int) or found <= 1)


def encoder_names(text: str) -> list[str]:
    """`A,B` → `["A", "B"]`. A comma inside brackets, or in the path of a file or folder, separates nothing.

    Raises:
        InputError: a name is missing before or after a comma, or is given twice.
    """
    pieces = _OUTSIDE.split(text)
    names: list[str] = []
    while pieces:
        taken = next((n for n in range(len(pieces), 1, -1) if os.path.exists(_file(",".join(pieces[:n])))), 1)
        names.append(",".join(pieces[:taken]).strip())
        del pieces[:taken]
    if "" in names:
        raise InputError(f"--encoder {text!r} has a comma without a name beside it")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"--encoder names {twice[0]} twice; give each encoder once")
    return names


def _file(name: str) -> str:
    """The path in an encoder's name, which may have a prefix (`onnx:FILE`)."""
    prefix, _, path = name.partition(":")
    return name if os.path.exists(name) or "," in prefix else path


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """The settings of an extraction.

    Raises:
        InputError: a value out of range, or values that do not go together, said with what is possible.
    """

    # fmt: off
    encoder: Annotated[str | None, Setting(
        "The frozen encoder: a name (--list shows them), timm:ID, hf:ID, or a model's folder. A,B: both at "
        "once, each file read once.",
        metavar="NAME[,NAME…]",
    )] = None
    data: Annotated[str | None, Setting(
        "What is extracted: manifest, folder of class folders (s3://, gs://, az:// too), CSV, or name. "
        "Default: the demo's shapes.",
        metavar="DATA",
    )] = None
    name: Annotated[str | None, Setting(
        "The data set's name. Default: the manifest's, else the folder's or file's.", metavar="DATASET",
    )] = None
    set: Annotated[str | None, Setting(
        "Which sample set of the modality, such as vanilla or cupl texts.", metavar="SET",
    )] = None
    root: Annotated[str | None, Setting(
        "Folder that the data's relative paths start from.", metavar="FOLDER",
    )] = None
    text_column: Annotated[str | None, _column("Column of the texts, of any table.")] = None
    path_column: Annotated[str | None, _column("Column of the files' paths, or of the media.")] = None
    label_column: Annotated[str | None, _column("Column of the labels.")] = None
    split_column: Annotated[str | None, _column("Column of the splits.")] = None
    id_column: Annotated[str | None, _column("Column of the ids.")] = None
    group_column: Annotated[str | None, _column("Column of the groups.")] = None
    out: Annotated[str, Setting("Cache folder, or its URL.", metavar="FOLDER", role="local")] = "feats"
    tokens: Annotated[bool, Setting(
        "Store token features beside the pooled ones.", option="--tokens/--pool",
    )] = False
    dtype: Annotated[str, Setting(
        "How features are stored. auto: float16, and arrays (encoder identity) as they are.",
        choices=("auto", "float16", "float32"),
    )] = "auto"
    pooling: Annotated[str | None, Setting(
        "How tokens become one vector. Default: the encoder's own way.",
        group=_ENCODER, choices=("cls", "mean", "last"),
    )] = None
    layer: Annotated[int, Setting(
        "Block whose output is taken, counted from 0.", group=_ENCODER, metavar="N",
    )] = -1
    transform: Annotated[str, Setting(
        "How samples are prepared. own: the encoder's way; paper: 224 pixels, CLIP's mean and deviation.",
        group=_ENCODER, choices=("own", "paper"),
    )] = "own"
    weights: Annotated[str | None, Setting(
        "A safetensors, .pt or .pth file with the weights, or a folder.", group=_ENCODER, metavar="PATH",
    )] = None
    batch_size: Annotated[int | Literal["auto"], Setting(
        "Samples in one forward pass.",
        group=_WORK, metavar="auto|N", takes="auto, or a whole number from 1 on",
        check=lambda size: size == "auto" or size >= 1,
    )] = "auto"
    device: Annotated[str, Setting(
        "Where the encoder runs: auto, cpu, cuda or cuda:N.", group=_WORK, metavar="DEVICE", role="local",
    )] = "auto"
    executor: Annotated[str, Setting(
        "Who works through the tasks.",
        group=_WORK, choices=("local", "torchrun", "slurm", "ray"), role="local",
    )] = "local"
    workers: Annotated[int | None, Setting(
        "Processes (local, ray) or jobs (slurm). Default: one for each CUDA device.",
        group=_WORK, metavar="N", takes="a number of at least 1", check=at_least(1), role="local",
    )] = None
    decode_workers: Annotated[int | Literal["auto"], Setting(
        "Processes that decode pictures and sounds. auto: one for each core; 0: threads instead.",
        group=_WORK, metavar="auto|N", takes="auto, or a whole number from 0 on", role="local",
        check=lambda number: number == "auto" or number >= 0,
    )] = "auto"
    sbatch: Annotated[str, Setting(
        'Options for the jobs of slurm, such as "--gres=gpu:1 --time=4:00:00".',
        group=_WORK, metavar="OPTIONS", role="local",
    )] = ""
    max_errors: Annotated[str, Setting(
        "Unreadable samples that are allowed.",
        group=_AGAIN, metavar="N|N%", check=_is_allowance, role="local",
        takes="a number of samples such as 5, or a share such as 1%",
    )] = "1%"
    retry_failed: Annotated[bool, Setting(
        "Redo tasks with unreadable samples that can be read now.", group=_AGAIN, role="local",
    )] = False
    check_sources: Annotated[bool, Setting(
        "Redo tasks whose files have changed in size or time.", group=_AGAIN, role="local",
    )] = False
    limit: Annotated[int | None, Setting(
        "Extract only N samples, spread over --data, into a separate store: a trial.",
        metavar="N", takes="a number of at least 1", check=at_least(1),
    )] = None
    prune: Annotated[bool, Setting(
        "Flag the rows of samples that are gone from --data; without it they stay.", group=_AGAIN,
        role="local",
    )] = False
    overwrite: Annotated[bool, Setting(
        "Remove the existing store and start again.", group=_AGAIN, role="local",
    )] = False
    left_out: Annotated[str | None, Setting(
        "Write what is left out, and why, to this CSV file.", group=_AGAIN, metavar="FILE", role="local",
    )] = None
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder is None:
            raise InputError("which encoder? give --encoder NAME; `uml extract --list` shows them")
        names = encoder_names(self.encoder)
        if len(names) > 1 and (self.weights or self.left_out):
            option = "--weights" if self.weights else "--left-out"
            raise InputError(f"{option} goes with one encoder, and --encoder names {len(names)}")
        if self.data is None and (self.name or self.set or self.root):
            raise InputError("--name, --set and --root describe --data, which is missing")
        columns = (self.text_column, self.path_column, self.label_column, self.split_column)
        if self.data is None and any((*columns, self.id_column, self.group_column, self.left_out)):
            raise InputError("--label-column, --left-out and their kind go with --data, which is missing")
        if self.data is None and self.limit is not None:
            raise InputError("--limit goes with --data, which is missing")
        if self.sbatch and self.executor != "slurm":
            raise InputError("--sbatch goes with --executor slurm")
        if self.overwrite and self.executor in ("slurm", "torchrun"):
            raise InputError(
                "--overwrite does not go with --executor slurm or torchrun, whose jobs would remove each "
                "other's work: remove the store first with `uml cache rm`"
            )
        if self.executor == "slurm" and self.data is None:
            raise InputError("--executor slurm needs --data: the demo's shapes are too few for a cluster")
        if self.executor == "slurm" and self.workers is None:
            raise InputError("--executor slurm needs --workers N, the number of jobs to share the work")
