"""Which stores a run uses: one without labels stands in nobody's way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toy_stores import write_store
from uml_cache import InputError, import_features, remove_store
from uml_train import open_problem, select_stores


def _write(feats: Path, modality: str, classes: tuple[str, ...], set: str | None = None) -> None:
    labels = [0, 1] * 10 if classes else [-1] * 20
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    write_store(feats, modality, features, labels, [255] * 20, set=set, classes=classes)


@pytest.mark.parametrize("asked", [None, [("text",)]])
def test_a_labelled_store_goes_before_one_without_labels(
    tmp_path: Path, asked: list[tuple[str, ...]] | None
) -> None:
    _write(tmp_path, "image", ("cat", "dog"))
    _write(tmp_path, "text", ())
    _write(tmp_path, "text", ("cat", "dog"), set="loose")
    found = select_stores(tmp_path, None, None, asked)
    assert [role.label for role in found.auxiliaries] == ["text.loose"]
    assert found.remarks == ("text:made-up of toy has no labels and is passed over for text.loose:made-up",)


def test_a_trial_stands_in_nobody_s_way_and_can_be_named(tmp_path: Path) -> None:
    _write(tmp_path, "image", ("cat", "dog"))
    trial = np.zeros((20, 4), np.float32)
    write_store(tmp_path, "image", trial, [0, 1] * 10, [255] * 20, variant="limit20", classes=("cat", "dog"))
    found = select_stores(tmp_path, None, None, None)
    assert found.target.store.variant is None
    assert found.remarks == ("image:made-up@limit20 of toy is a trial and is passed over for image:made-up",)
    assert select_stores(tmp_path, None, "image:made-up", None).target.store.variant is None
    named = select_stores(tmp_path, None, "image:made-up@limit20", None)
    assert named.target.store.variant == "limit20"
    remove_store(found.target.store.path)
    assert select_stores(tmp_path, None, None, None).target.store.variant == "limit20"  # the only one


def test_the_only_store_without_labels_is_refused_with_the_commands(tmp_path: Path) -> None:
    _write(tmp_path, "image", ("cat", "dog"))
    _write(tmp_path, "text", ())
    found = select_stores(tmp_path, None, None, None)
    with pytest.raises(InputError, match="uml data text toy --texts FILE") as caught:
        open_problem(found.dataset, found.target, found.auxiliaries)
    assert "uml extract --encoder made-up --data data/toy/text.loose" in str(caught.value)


def test_a_name_in_another_unicode_form_is_the_same_data_set(tmp_path: Path) -> None:
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    np.savez(tmp_path / "x.npz", features=np.ones((2, 2), np.float32), labels=np.array(["a", "b"]))
    for name, modality in ((composed, "image"), (decomposed, "text")):
        import_features(
            [tmp_path / "x.npz"], tmp_path / "feats", dataset=name, modality=modality, encoder="net"
        )
    for asked in (None, composed, decomposed):
        found = select_stores(tmp_path / "feats", asked, None, None)
        assert found.dataset == composed
        assert [role.label for role in found.auxiliaries] == ["text"]
