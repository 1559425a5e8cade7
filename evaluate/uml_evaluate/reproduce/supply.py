"""What a recipe's runs read: stores of the cache, extracted where they are missing and the data is there.

Folders of `--data` are those of CoOp, cross-modal adaptation and MultiBench, or hold `images.csv`,
`sounds.csv` or `texts.csv`; they are read in place, and only the small manifests are written, into ./data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uml_cache import QUIET, InputError, Output, StoreInfo, WorkError, find_stores
from uml_evaluate.reproduce.feature_files import FeatureFile
from uml_evaluate.reproduce.recipe.parts import Need, Part
from uml_extract import modality_of
from uml_manifests import Manifest, build_data, build_texts, list_benchmarks, manifest_folders, resolve_data
from uml_train import full_name, protocol_value

# Where published data roots keep a data set, beside a folder of its name.
_FOLDERS = {
    "caltech101": ("caltech-101",),
    "food101": ("food-101",),
    "imagenet_v2": ("imagenetv2",),
    "imagenet_sketch": ("imagenet-sketch",),
    "imagenet_a": ("imagenet-adversarial",),
    "imagenet_r": ("imagenet-rendition",),
    "esc50": ("esc-50", "ESC-50-master"),
    "imagenet_esc19": (".",),
    "imagenet_esc27": (".",),
    "mosi": ("multibench", "."),
    "mosei": ("multibench", "."),
    "sarcasm": ("multibench", "."),
    "humor": ("multibench", "."),
    "mimic": ("multibench", "."),
}
_FEATURES = ("pooled", "tokens/values")
_TABLES = {"image": "images.csv", "audio": "sounds.csv", "text": "texts.csv"}
_TEMPLATES = ("vanilla", "classname", "handwritten")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where features come from.

    Args:
        cache: folder with feature stores; missing ones are extracted into it.
        data: folder with the data sets' own folders; None: only what has a manifest under ./data.
        descriptions: folder with description files, `descriptors_NAME.json` or `NAME.json`.
        weights: file or folder of an encoder's weights, by the encoder's name.
        device: where encoders and models run.
        workers: processes that read samples in a fine-tuning; None: as many as it takes by itself.
        protocol: whose precision features are extracted with.
        folders: manifests by data set and place, where they are not under ./data.
    """

    cache: Path
    data: Path | None = None
    descriptions: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    workers: int | None = None
    protocol: str = "fair"
    folders: Mapping[tuple[str, str], Path] = field(default_factory=dict)


class Supply:
    """Finds what is needed, makes what is missing, and remembers what could not be had."""

    def __init__(self, sources: Sources, output: Output = QUIET, files: Sequence[FeatureFile] = ()) -> None:
        """`files`: features of the recipe that lie below the sources' `data`."""
        self.sources, self.output, self._files = sources, output, files
        self._stores: list[StoreInfo] | None = None
        self._lacking: dict[str, str] = {}

    @property
    def stores(self) -> list[StoreInfo]:
        """The cache's stores; none where there is no cache yet."""
        if self._stores is None:
            self._stores = find_stores(self.sources.cache) if self.sources.cache.is_dir() else []
        return self._stores

    def find(self, need: Need) -> StoreInfo | None:
        """The store of a need, or None. One of the wanted transform counts before any other."""
        fitting = [
            store
            for store in self.stores
            if (store.dataset, store.modality, store.set) == (need.dataset, need.modality, need.set)
            and need.encoder in (store.encoder_name, full_name(store))
            and store.sealed
            and (store.token_dim is not None or not need.tokens)
        ]
        wanted = "paper" if need.transform == "paper" else ""
        fitting.sort(
            key=lambda s: (
                wanted not in (s.variant or "").split("-") if wanted else "paper" in (s.variant or ""),
                (s.token_dim is not None) != need.tokens,
                s.path,
            )
        )
        return fitting[0] if fitting else None

    def store(self, need: Need) -> StoreInfo:
        """The store of a need, extracted if it is not there.

        Raises:
            InputError: no data, or no weights; the same answer is given again without trying again.
            WorkError: the extraction failed.
        """
        found = self.find(need)
        if found is not None:
            if need.transform == "paper" and "paper" not in (found.variant or ""):
                self.output.say(f"{found.path} was made with the encoder's own transform, not the paper's")
            wanted = str(protocol_value(self.sources.protocol, "reproduce", "dtype"))
            stored = {array.get("dtype") for name, array in found.arrays.items() if name in _FEATURES}
            if wanted == "float32" and "float16" in stored:
                self.output.say(
                    f"{found.path} is stored in float16; the protocol {self.sources.protocol} says float32"
                )
            return found
        assert need.encoder is not None
        data = self.sources.data
        for file in self._files:
            if data is not None and file.key == (need.dataset, need.place, need.encoder):
                self.output.say(f"importing {need.text()} from {data / file.file}")
                file.make(data, self.sources.cache)
                return self._made(need)
        if need.encoder not in {store.encoder_name for store in self.stores}:
            modality_of(need.encoder)  # an unknown name is said before any data is looked for
        manifest = self.manifest(need)
        if need.encoder in self._lacking:
            raise InputError(self._lacking[need.encoder])
        import uml_extract
        from uml_extract import Recipe

        device = self.sources.device
        weights = self.sources.weights.get(need.encoder)
        dtype = str(protocol_value(self.sources.protocol, "reproduce", "dtype"))
        options: dict[str, Any] = {
            "weights": weights, "transform": need.transform, "device": device,
            **({} if dtype == "auto" else {"dtype": dtype}),
        }  # fmt: skip
        try:
            encoder = uml_extract.load_encoder(need.encoder, **options)
        except InputError as error:
            self._lacking[need.encoder] = f"no weights: {_line(error)}"
            raise InputError(self._lacking[need.encoder]) from None
        self.output.say(f"extracting {need.text()}, {len(manifest):,} samples")
        uml_extract.extract(
            manifest,
            encoder,
            out=self.sources.cache,
            tokens=need.tokens,
            device=device,
            dtype=dtype,
            recipe=Recipe(need.encoder, options),
            output=self.output,
        )
        return self._made(need)

    def _made(self, need: Need) -> StoreInfo:
        self._stores = None
        found = self.find(need)
        if found is None:
            raise WorkError(f"{need.text()} was made and is not in {self.sources.cache}")
        return found

    def missing(self, part: Part) -> list[Need]:
        """What a part reads and is not here yet: stores, and manifests of samples."""

        def there(need: Need) -> bool:
            if need.encoder is not None:
                return self.find(need) is not None
            given = self.sources.folders.get((need.dataset, need.place))
            return (given or Path("data") / need.dataset / need.place).exists()

        return [need for need in part.needs if not there(need)]

    def has_data(self, dataset: str, place: str) -> bool:
        """Whether samples of a place have a manifest here, or a folder to make one of; nothing is built."""
        if (dataset, place) in self.sources.folders or (Path("data") / dataset / place).exists():
            return True
        modality, _, chosen = place.partition(".")
        root = self.sources.data
        folders = [root / name for name in (dataset, *_FOLDERS.get(dataset, ()))] if root else []
        there = any(folder.is_dir() and folder != root for folder in folders)
        if modality != "text":
            return there
        if chosen in _TEMPLATES:
            return there or any((Path("data") / dataset).glob("*"))
        described = self.sources.descriptions
        names = (f"descriptors_{dataset}.json", f"{dataset}.json")
        return described is not None and any((described / name).is_file() for name in names)

    def manifest(self, need: Need) -> Manifest:
        """The samples of a need, built from the data's folder if they have no manifest yet.

        Raises:
            InputError: the data is not there, and where it was looked for.
        """
        try:
            return self._there(need)
        except InputError as error:
            missing = error
        try:
            if need.modality == "text":
                self._make_texts(need)
            else:
                self._build(need)
        except InputError as error:
            raise InputError(f"no data: {_line(error)}") from None
        try:
            return self._there(need)
        except InputError:
            raise InputError(f"no data: {_line(missing)}") from None

    def folder(self, need: Need) -> Path:
        """The folder of the manifest of a need; raises as `manifest`."""
        self.manifest(need)
        given = self.sources.folders.get((need.dataset, need.place))
        return Path("data") / need.dataset / need.place if given is None else given

    def fold(self, need: Need, fold: int, shots: object) -> Path:
        """The file of splits of one fold. Raises `InputError` where it is not there."""
        given = self.sources.folders.get((need.dataset, "folds"))
        folder = Path("data") / need.dataset / "folds" if given is None else given
        path = folder / f"fold{fold}-k{shots}.csv"
        if not path.is_file():
            raise InputError(
                f"no data: {path} is not there; `uml data build {need.dataset}` writes the folds"
            )
        return path

    def _there(self, need: Need) -> Manifest:
        given = self.sources.folders.get((need.dataset, need.place))
        if given is not None:
            return resolve_data(given, name=need.dataset, modality=need.modality)
        table = self._table(need)
        if table is not None:
            return resolve_data(table, name=need.dataset, modality=need.modality)
        found = resolve_data(need.dataset, set=need.set, modality=need.modality)
        if need.modality == "text" and found.set != need.set:  # the only texts there are, of another name
            raise InputError(f"{need.dataset} has no {need.place}")
        return found

    def _table(self, need: Need) -> Path | None:
        """The table of samples that a folder of a data set below `--data` has, such as `images.csv`."""
        if self.sources.data is None or need.set is not None or need.modality not in _TABLES:
            return None
        path = self.sources.data / need.dataset / _TABLES[need.modality]
        return path if path.is_file() else None

    def _build(self, need: Need) -> None:
        root = self.sources.data
        if need.dataset not in {benchmark.name for benchmark in list_benchmarks()}:
            raise InputError(
                f"neither {self.sources.cache} nor ./data has {need.dataset} {need.place}, and no benchmark "
                "has that name; `uml cache ls` and `uml data list` show what there is"
            )
        if root is None:
            raise InputError(
                f"./data has no {need.dataset} {need.place}; give --data DIR, or use "
                f"`uml data build {need.dataset}`"
            )
        tried: list[InputError] = []
        for name in (need.dataset, *_FOLDERS.get(need.dataset, ())):
            folder = root / name
            if folder.is_dir():
                try:
                    built = build_data(need.dataset, folder)
                except InputError as error:
                    tried.append(error)
                    continue
                for remark in built.remarks:
                    self.output.say(f"{need.dataset}: {remark}")
                return
        raise tried[0] if tried else InputError(f"{root} has no folder {need.dataset}")

    def _make_texts(self, need: Need) -> None:
        known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
        modalities = known[need.dataset].modalities if need.dataset in known else ("image",)
        self.manifest(Need(dataset=need.dataset, place=modalities[0], encoder=None))
        if need.set in _TEMPLATES:
            build_texts(need.dataset, need.set, None, modality=modalities[0])
            return
        folder = self.sources.descriptions
        if folder is None:
            raise InputError(
                f"neither {self.sources.cache} nor ./data has {need.dataset} {need.place}"
                f"{self._other_texts(need)}; give --descriptions DIR with description files, or extract "
                f"texts with --name {need.dataset}"
            )
        for name in (f"descriptors_{need.dataset}.json", f"{need.dataset}.json"):
            if (folder / name).is_file():
                build_texts(need.dataset, None, folder / name, set=need.set, modality=modalities[0])
                return
        raise InputError(f"{folder} has neither descriptors_{need.dataset}.json nor {need.dataset}.json")

    def _other_texts(self, need: Need) -> str:
        """The sets of texts that there are, for a recipe that names another or none."""
        places = {
            f"{s.modality}.{s.set}" if s.set else s.modality
            for s in self.stores
            if (s.dataset, s.modality) == (need.dataset, need.modality)
        }
        places |= {
            p for p in manifest_folders(Path("data") / need.dataset) if p.split(".")[0] == need.modality
        }
        there = sorted(places - {need.place})
        return f"; there is {', '.join(there)}" if there else ""


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
