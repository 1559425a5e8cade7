"""Run folders written by hand, in the run format, with accuracies that are known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from uml_train.run import Cell, CellResult
from uml_train.settings import TrainSettings

TEST_ROWS = 200
CLASSES = ("apple", "bear & <b>cub</b>", "cup", "door")

ACCURACY = {
    ("unimodal", None): 0.40,
    ("unimodal-deep", None): 0.50,
    ("init-only", None): 0.52,
    ("uml", None): 0.60,
    ("uml-init", None): 0.62,
    ("uml", "permuted"): 0.42,
    ("uml", "random"): 0.50,
}


def predictions(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) predictions of which the first share (shifted by the seed) are right and the rest wrong."""
    right = np.arange(len(labels)) < round(share * len(labels))
    right = np.roll(right, 3 * seed)
    return np.where(right, labels, (labels + 1) % len(CLASSES)).astype(np.int32)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder below `runs`; returns its path."""

    def write(
        name: str = "toy-image-00000001",
        *,
        runs: Path | None = None,
        dataset: str = "toy",
        accuracy: dict[tuple[str, str | None], float] = ACCURACY,
        configurations: Iterable[tuple[tuple[str, ...], int]] = ((("text",), 8),),
        shots: Iterable[int | str] = (1, 4),
        seeds: Iterable[int] = (1, 2, 3),
        created: str = "2026-01-02T03:04:05+00:00",
        skip: Callable[[Cell], bool] = lambda cell: False,
    ) -> Path:
        configurations = list(configurations)
        folder = (runs or tmp_path / "runs") / name
        for part in ("cells", "heads", "predictions"):
            (folder / part).mkdir(parents=True)
        labels = (np.arange(TEST_ROWS) % len(CLASSES)).astype(np.int32)
        np.save(folder / "test_labels.npy", labels)
        settings = TrainSettings(
            cache=tmp_path / "feats",
            dataset=dataset,
            target="image",
            auxiliaries=tuple(labels for labels, _ in configurations) or None,
            methods=tuple(dict.fromkeys(method for method, _ in accuracy)),
            controls=tuple(dict.fromkeys(control for _, control in accuracy if control)),
            shots=tuple(shots),
            seeds=tuple(seeds),
            out=folder.parent,
        )
        roles = ["image", *dict.fromkeys(label for labels, _ in configurations for label in labels)]
        config = {
            "format": 1,
            "created": created,
            "settings": settings.to_json(),
            "dataset": dataset,
            "target": "image",
            "configurations": [list(labels) for labels, _ in configurations],
            "objective": "supervised",
            "trunk": "linear",
            "classes": list(CLASSES),
            "grid": {"name": "quick", "candidates": [{"lr": 0.01}], "schedule": {"steps": 10}},
            "stores": {
                role: {
                    "path": str(tmp_path / "feats" / dataset / role / "enc.zarr"),
                    "dataset": dataset,
                    "modality": role.partition(".")[0],
                    "set": None,
                    "encoder": f"{role}-enc",
                    "fingerprint": "0123456789abcdef",
                    "rows": 300,
                    "usable_rows": 298,
                    "failed_rows": 2 if role == "image" else 0,
                    "dim": 8,
                }
                for role in roles
            },
            "rows": {"train": 80, "val": 20, "test": TEST_ROWS},
            "class_notes": {
                role: {"without_auxiliary": ["door"], "unused": ["<script>alert(1)</script>"]}
                for role in roles[1:]
            },
            "remarks": [],
            "versions": {"uml-cache": "0.1.0", "torch": "2", "numpy": "2", "python": "3.11"},
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        cells = []
        for k in shots:
            for seed in seeds:
                for (method, control), _share in accuracy.items():
                    keys = dict.fromkeys(
                        ((), 8 if method == "unimodal" else width)
                        if method.startswith("unimodal")
                        else (labels, width)
                        for labels, width in configurations or [((), 8)]
                    )
                    cells += [
                        Cell(
                            auxiliaries=labels,
                            method=method,
                            control=control,
                            shots=k,
                            seed=seed,
                            shared_width=width,
                        )
                        for labels, width in keys
                    ]
        for cell in cells:
            if skip(cell):
                continue
            share = accuracy[cell.method, cell.control]
            predicted = predictions(np.load(folder / "test_labels.npy"), share, cell.seed)
            np.save(folder / "predictions" / f"{cell.key}.npy", predicted)
            score = float(100 * (predicted == np.load(folder / "test_labels.npy")).mean())
            result = CellResult(
                cell=cell,
                dataset=dataset,
                target="image",
                encoders={role: f"{role}-enc" for role in ("image", *cell.auxiliaries)},
                objective="supervised",
                trunk="linear",
                normalize="none",
                texts="all",
                grid="quick",
                label_budget=20,
                candidates=[],
                selected=0,
                val_acc=score,
                test_acc=score,
                best_step=1,
                seconds=0.1,
                history=[],
                folder=folder,
            )
            path = folder / "cells" / f"{cell.key}.json"
            path.write_text(json.dumps(result.to_json()), encoding="utf-8")
        return folder

    return write
