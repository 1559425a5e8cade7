"""What `--check` says is here, the plan of the tiny scale, and a recipe on data at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from uml_evaluate.commands.reproduce_command import reproduce
from uml_extract import weights_at_hand
from uml_manifests import render_shapes


def _answer(*words: str) -> Any:
    done = CliRunner().invoke(reproduce, [*words, "--quiet", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a hub cache with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_a_check_says_what_is_missing_and_writes_nothing(place: Path) -> None:
    (place / "roots" / "dtd").mkdir(parents=True)
    (place / "cupl").mkdir()
    (place / "cupl" / "descriptors_dtd.json").write_text("{}")
    before = sorted(place.rglob("*"))
    words = ["table17", "--check", "--data", "roots", "--descriptions", "cupl"]
    value = _answer(*words)
    assert value["machine"]["cores"] >= 1
    (one,) = value["recipes"]
    assert (one["recipe"], one["protocol"], one["ready"]) == ("table17", "paper", False)
    assert (one["data"]["dtd image"], one["data"]["dtd text.cupl"]) == (True, True)
    assert (one["data"]["sun397 image"], one["data"]["sun397 text.cupl"]) == (False, False)
    assert one["weights"] == {"dinov2_vits14": False, "open_llama_3b": False}
    # Stored in float32 under `paper`, in float16 under `fair`.
    assert one["disk_bytes"] == 2 * _answer(*words, "--protocol", "fair")["recipes"][0]["disk_bytes"]
    assert one["seconds"] is None
    assert sorted(place.rglob("*")) == before
    text = CliRunner().invoke(reproduce, [*words, "--quiet"]).stdout
    assert "weights  0 of 2 here; missing: dinov2_vits14, open_llama_3b" in text


def test_weights_are_looked_for_and_not_loaded(place: Path) -> None:
    assert weights_at_hand("hog-color")
    assert not weights_at_hand("clip_rn50")
    assert not weights_at_hand("audioclip")
    (place / "a.pt").write_bytes(b"")
    assert weights_at_hand("audioclip", place / "a.pt")


def test_the_tiny_dry_run_tells_of_the_tiny_run(place: Path) -> None:
    before = sorted(place.rglob("*"))
    plan = _answer("table22", "--scale", "tiny", "--dry-run")
    # Two data sets; unimodal, uml and uml-init, two draws, two seeds, two learning rates.
    assert [part["models"] for part in plan["parts"]] == [3 * 2 * 2 * 2] * 2
    assert all(part["missing"] == 0 and part["seconds"] > 0 for part in plan["parts"])
    assert sorted(place.rglob("*")) == before


def test_a_recipe_on_data_and_encoders_at_hand(place: Path) -> None:
    render_shapes(place / "mine", train=4, val=4, test=2, texts=4)
    value = _answer("table17", "--scale", "small", "--data", "mine", "--out", "out")
    assert (value["scale"], value["not_run"]) == ("small", [])
    assert {n["dataset"] for n in value["numbers"]} == {"shapes"}
    (run,) = value["runs"]
    encoders = {label: store["encoder"] for label, store in run["stores"].items()}
    assert "dinov2_vits14" not in encoders.values()
    assert (place / "out" / "small" / "result.json").is_file()
    assert np.isfinite([n["value"] for n in value["numbers"]]).all()


def test_data_that_is_none_is_said(place: Path) -> None:
    (place / "empty").mkdir()
    done = CliRunner().invoke(reproduce, ["table17", "--scale", "small", "--data", "empty"])
    assert "no folder image of a data set of your own" in str(done.exception)
