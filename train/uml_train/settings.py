"""What `uml train` is asked to do: every choice that decides its numbers, checked, and its hash."""

# Annotations are not postponed here: they hold the declarations, and those are values.

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from uml_cache import InputError, Setting, Settings, all_different, at_least, unknown

METHODS = ("unimodal", "ridge", "prior", "unimodal-deep", "init-only", "uml", "uml-init")
SELF_TRAINING = "self-training"
KNOWN = (*METHODS[:2], SELF_TRAINING, *METHODS[2:])
"""Every method with labels, the simplest first; `METHODS` are those that a run compares by default. What sees
rows of the target without labels is compared where it is asked for."""
SOLVED = ("ridge", SELF_TRAINING, "prior")  # in closed form, by no grid of AdamW
LINEAR = ("unimodal", *SOLVED)  # one layer without a projection
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "supervised": KNOWN,
    "ssl": ("unimodal", "uml"),
    "joint": ("unimodal", "self-supervised", "uml"),
}  # and their methods
AUTO = "auto"  # of the run's other methods whichever validates best; trains nothing
WITH_AUXILIARIES = ("prior", "init-only", "uml", "uml-init")
WITH_AUXILIARY_LOSS = ("uml", "uml-init")
FROM_CLASS_MEANS = ("init-only", "uml-init")
CONTROLS = ("permuted", "random")
UNRELATED = "unrelated:"  # and the name of a data set
TRANSFORMER = "transformer"
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
STEPPED = {"grid": "quick", "normalize": "none"}  # `auto` where AdamW trains
DEFAULT_SHOTS: tuple[int, ...] = (1, 2, 4, 8, 16)
PROTOCOLS = ("fair", "paper", "authors")
SEARCHED = "search"  # texts: those of the grid

# The commands that a setting means something to.
_FEATURES, _LABELLED = ("train", "pretrain"), ("train", "finetune")
_SEARCH, _DATA, _MACHINE = "Search", "Data and features", "Machine"

Shots = int | Literal["all"]
Texts = int | Literal["all", "mean", "search"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """The settings of a run; `FinetuneSettings` stand beside them where whole networks train.

    Raises:
        InputError: a value out of range, or values that do not go together, said with what is possible.
    """

    # fmt: off
    cache: Annotated[Path, Setting(
        "Folder with feature stores.", metavar="FOLDER", role="local",
    )] = Path("feats")
    dataset: Annotated[str | None, Setting(
        "Data set to train on; several get one run each. Default: the only one in the cache.",
        metavar="NAME[,NAME]", role="data", ways=_FEATURES,
    )] = None
    target: Annotated[str | None, Setting(
        "What is classified, such as image or image:dinov2_vits14. Default: image, else audio, else text.",
        metavar="MODALITY[.SET][:ENCODER]", role="data", ways=_FEATURES,
    )] = None
    auxiliaries: Annotated[tuple[tuple[str, ...], ...] | None, Setting(
        "One configuration of unpaired data, such as text or text+audio; give it again for more, or none. "
        "Default: every other modality, each alone and all together.",
        option="--aux", metavar="MODALITY[+MODALITY]", role="data",
    )] = None
    methods: Annotated[tuple[str, ...], Setting(
        "Methods to compare. auto takes whichever of the others is best on validation; self-training, which "
        "also learns from rows of the target without labels, is compared where it is named.",
        option="--method", metavar="METHOD[,METHOD]",
        choices=(*KNOWN, AUTO, "self-supervised"),
    )] = METHODS
    controls: Annotated[tuple[str, ...], Setting(
        "Data that should not help: permuted (its classes swapped), random (random class vectors) or "
        "unrelated:NAME (another data set's).",
        option="--control", metavar="CONTROL[,CONTROL]", choices=(*CONTROLS, UNRELATED),
        takes="permuted, random or unrelated:NAME with a data set of the cache",
    )] = ()
    shots: Annotated[tuple[Shots, ...] | None, Setting(
        "Labelled samples per class. Default: each of 1, 2, 4, 8, 16 that every class can supply.",
        metavar="K[,K]|all", takes="numbers of at least 1, or all",
        check=lambda shots: shots and all(k == "all" or k >= 1 for k in shots),
    )] = None
    seeds: Annotated[tuple[int, ...], Setting(
        "Each seed fixes a draw of samples, an initialisation and a batch order.",
        metavar="S[,S]|S-S", takes="different whole numbers from 0 on, such as 1,2,4 or 1-5",
        check=lambda seeds: all_different(seeds) and min(seeds) >= 0,
    )] = (1, 2, 3, 4, 5)
    grid: Annotated[str, Setting(
        "Hyperparameters that every method searches. auto: fair (heads are solved on all rows at once), or "
        "quick where that cannot be; quick, paper, demo or a file: trained by AdamW.",
        metavar="NAME|FILE.toml",
    )] = "auto"
    protocol: Annotated[str, Setting(
        "Whose values hold for what you do not give. fair: ours; paper: those of the paper's text; "
        "authors: those of its "
        "public code. Deviations are recorded.",
        choices=PROTOCOLS,
    )] = "fair"
    out: Annotated[Path, Setting("Folder of runs.", metavar="FOLDER", role="local")] = Path("runs")
    alpha: Annotated[tuple[float, ...] | None, Setting(
        "Weights of each auxiliary's loss to search. Default: the grid's, 1.",
        group=_SEARCH, metavar="A[,A]", takes="different numbers from 0 to 1,000,000",
        check=lambda alphas: all_different(alphas) and all(0 <= a <= 1e6 for a in alphas),
    )] = None
    ratio: Annotated[tuple[float, ...] | None, Setting(
        "Auxiliary batches per target batch to search. Default: the grid's, 1.",
        group=_SEARCH, metavar="R[,R]", takes=f"different numbers of {', '.join(f'{r:g}' for r in RATIOS)}",
        check=lambda ratios: all_different(ratios) and set(ratios) <= set(RATIOS), ways=_LABELLED,
    )] = None
    candidates: Annotated[str, Setting(
        "How many candidates a method has. equal: as many for each; own: one for each combination that means "
        "something to it (the paper's).",
        group=_SEARCH, choices=("equal", "own"),
    )] = "equal"
    refit: Annotated[bool, Setting(
        "Solve the selected head once more on training and validation rows together (grid fair).",
        group=_SEARCH, ways=("train",),
    )] = False
    sampling: Annotated[str, Setting(
        "How batches are drawn. balanced: the classes in equal parts.",
        group=_SEARCH, choices=("shuffled", "balanced"), ways=_LABELLED,
    )] = "shuffled"
    trunk: Annotated[str, Setting(
        "What the modalities share. mlp: a hidden layer; transformer: blocks over the tokens that "
        "`uml extract --tokens` writes.",
        group="Model", choices=("linear", "mlp", TRANSFORMER), ways=_LABELLED,
    )] = "linear"
    aligned: Annotated[str, Setting(
        "How encoders with a joint space, such as CLIP's, share it. normalized: logits of unit vectors "
        "times 100; "
        "raw: logits of the vectors as they are; off: a projection, as for other encoders.",
        group="Model", choices=("normalized", "raw", "off"), ways=_LABELLED,
    )] = "normalized"
    objective: Annotated[str, Setting(
        "What is learnt. ssl: a transformer predicts the next token, without labels; joint: that and the "
        "classes of a few samples. Both need stores with tokens.",
        group="Model", choices=tuple(OBJECTIVES), role="data", ways=("pretrain",),
    )] = "supervised"
    normalize: Annotated[str, Setting(
        "How features are normalised, fitted on the rows that a model trains on. shrunk: standardised by "
        "deviations that few rows cannot lead astray, then unit length; scaled: the same without unit "
        "length. validated: shrunk, or center-l2 where validation clearly speaks for it; "
        "validated-lengths: scaled, or center or standard. auto: with the grid fair validated, and "
        "validated-lengths for the encoder log-mel; else none.",
        group=_DATA,
        choices=(
            *("auto", "none", "center", "l2", "center-l2", "standard", "shrunk", "scaled"),
            *("validated", "validated-lengths"),
        ),
        ways=_FEATURES,
    )] = "auto"
    normalize_on: Annotated[str, Setting(
        "Rows that normalisation is fitted on. pool: all training rows of the target, without labels.",
        group=_DATA, choices=("draw", "pool"), ways=("train",),
    )] = "draw"
    texts: Annotated[Texts, Setting(
        "Auxiliary samples per class: all, a number drawn at random, their mean, or search: those that the "
        "grid lists.",
        group=_DATA, metavar="all|N|mean", takes="a number of at least 1, all, mean or search",
        ways=_LABELLED,
        check=lambda texts: isinstance(texts, str) or texts >= 1,
    )] = "all"
    class_map: Annotated[Path | None, Setting(
        "CSV with columns auxiliary,target where class names differ.",
        group=_DATA, metavar="FILE", role="file", ways=_LABELLED,
    )] = None
    splits: Annotated[Path | None, Setting(
        "CSV with columns id,split, or a few-shot index (JSON), in place of the target's own splits. Rows "
        "that it does not name are not used.",
        group=_DATA, metavar="FILE", role="file",
    )] = None
    ids: Annotated[str, Setting(
        "What equal ids in two modalities mean. shared: the same sample, left out of the unpaired data if it "
        "validates or tests; own: nothing; recorded: shared where both stores were given their ids.",
        group=_DATA, choices=("recorded", "shared", "own"),
    )] = "recorded"
    short_classes: Annotated[str, Setting(
        "Classes with fewer labelled rows than K. refused: an error; whole: all their rows are used.",
        group=_DATA, choices=("refused", "whole"),
    )] = "refused"
    loader: Annotated[str, Setting(
        "Where features are held. device: in memory or on the GPU; host: mapped from the stores; stream: "
        "read "
        "ahead. Results are the same.",
        group=_MACHINE, choices=("auto", "device", "host", "stream"), role="local",
    )] = "auto"
    device: Annotated[str, Setting(
        "Where models train. auto takes CUDA where there is some.",
        group=_MACHINE, choices=("auto", "cpu", "cuda"), role="local",
    )] = "auto"
    precision: Annotated[str, Setting(
        "Precision of the products on CUDA. Weights stay float32.",
        group=_MACHINE, choices=("float32", "bfloat16", "float16"),
    )] = "float32"
    probe: Annotated[str, Setting(
        "How embeddings are probed, by logistic regression. standardised; raw: as they are, 200 iterations; "
        "liblinear: standardised, with that solver.",
        group="Model", choices=("standardised", "raw", "liblinear"), ways=("pretrain",),
    )] = "standardised"
    snapshots: Annotated[int, Setting(
        "Save the selected networks every so many epochs, for `uml eval --analysis neurons`. 0: never.",
        group="Model", metavar="EPOCHS", takes="a number of epochs from 0 on", ways=("pretrain",),
        check=at_least(0),
    )] = 0
    checkpoint_minutes: Annotated[float, Setting(
        "Minutes between two checkpoints of a network.",
        group=_MACHINE, metavar="MINUTES", takes="a number from 0 on", role="local", ways=("pretrain",),
        check=at_least(0),
    )] = 10.0
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots is not None:
            object.__setattr__(self, "shots", tuple(sorted(self.shots, key=lambda k: k == "all")))
        if any(not names or not all(name.strip() for name in names) for names in self.auxiliaries or ()):
            raise InputError(
                "--aux is empty; leave it out for every other modality, or give --aux none to train without "
                "unpaired data"
            )
        if self.objective != "supervised":
            self._check_sequences()
        known = (*OBJECTIVES[self.objective], *((AUTO,) if self.objective == "supervised" else ()))
        for method in self.methods:
            if method not in known:
                raise unknown(f"method of the objective {self.objective}:", method, known)
        if not set(self.methods) - {AUTO}:
            raise InputError(f"no method to train; name some of {', '.join(METHODS)}")
        if self.controls and not self.controlled:
            raise InputError(
                "controls need a method that trains on more than labelled rows: uml, uml-init, prior or "
                "self-training"
            )

    def _check_sequences(self) -> None:
        """What the objectives without a head bank can do."""
        if self.methods == METHODS:
            object.__setattr__(self, "methods", OBJECTIVES[self.objective])
        if "permuted" in self.controls:
            raise InputError(
                f"the control permuted swaps classes, and the objective {self.objective} uses no classes of "
                "an auxiliary; its controls are random and unrelated:NAME"
            )
        for name, usual in STEPPED.items():
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, usual)
        if self.normalize not in ("none", "standard"):
            raise InputError(
                f"the objective {self.objective} normalises tokens by none or standard, not {self.normalize}"
            )
        if self.precision == "float16":
            raise InputError(f"the objective {self.objective} takes --precision float32 or bfloat16")
        if self.snapshots and self.objective != "ssl":
            raise InputError("--snapshots is for networks without labels (--objective ssl); leave it out")
        self.check_way("pretrain", f"means nothing under --objective {self.objective}")

    @property
    def way(self) -> str:
        """The command that trains with these settings alone: `train`, or without labels `pretrain`."""
        return "train" if self.objective == "supervised" else "pretrain"

    @property
    def normalization(self) -> str:
        """How tables name the normalisation: `standard`, or `standard@pool` where it saw unlabelled rows."""
        seen = self.normalize_on == "pool" and self.normalize not in ("none", "l2")
        return f"{self.normalize}@pool" if seen else self.normalize

    @property
    def controlled(self) -> tuple[str, ...]:
        """The methods that controls are run for: `uml`, whose difference to `unimodal-deep` is the data
        alone, and `self-training` and `prior`, whose differences to `ridge` are.

        Where `uml` is not trained it is `uml-init`, whose control starts from the altered data too.
        """
        trained = next((m for m in WITH_AUXILIARY_LOSS if m in self.methods), None)
        return tuple(m for m in (SELF_TRAINING, "prior", trained) if m in self.methods)

    def stepped(self) -> "TrainSettings":
        """The settings of what is trained in steps whatever it is: `auto` is what it was before."""
        values: dict[str, Any] = {k: v for k, v in STEPPED.items() if getattr(self, k) == "auto"}
        return replace(self, **values, methods=self.stepped_methods())

    def stepped_methods(self) -> tuple[str, ...]:
        """The methods that AdamW can train: of all of them those, where none is named.

        Raises:
            InputError: one is named that only the grid `fair` solves.
        """
        if self.methods in (METHODS, tuple(m for m in METHODS if m not in WITH_AUXILIARIES)):
            return tuple(m for m in self.methods if m not in SOLVED)
        if named := [m for m in self.methods if m in SOLVED]:
            raise InputError(
                f"the method {named[0]} is solved in closed form (`uml train --grid fair`), and AdamW trains "
                "here; leave it out"
            )
        return self.methods


def settings_hash(values: Any) -> str:
    """Sixteen hexadecimal digits that name a run: the same for the same choices over the same content."""
    from hashlib import sha256

    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
