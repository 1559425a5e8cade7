"""`uml extract --out` with the URL of object storage (here in memory)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uml_cache import open_features, verify
from uml_cache.cli import main
from uml_extract import extract
from uml_manifests import resolve_data


@pytest.mark.parametrize("tokens", [False, True])
def test_extraction_to_object_storage(
    tmp_path: Path, tokens: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "t.txt"
    texts.write_text("".join(f"line {row} of the text\n" for row in range(150)) + ":\n")
    place = f"memory://{tmp_path.name}/feats"
    remote = extract(resolve_data(texts), "hashed-ngrams", out=place, tokens=tokens)
    assert str(remote.store).startswith(f"{place}/t/text/hashed-ngrams")
    again = extract(resolve_data(texts), "hashed-ngrams", out=place, tokens=tokens)
    assert again.resumed_tasks == again.tasks == 3
    assert verify(remote.store).ok
    local = extract(resolve_data(texts), "hashed-ngrams", out=tmp_path / "feats", tokens=tokens)
    assert torch.equal(open_features(remote.store).pooled, open_features(local.store).pooled)
    for command in (
        ["cache", "ls", place],
        ["extract", "--encoder", "hashed-ngrams", "--data", str(texts), "--out", place],
    ):
        with pytest.raises(SystemExit) as leaving:
            main(command)
        assert not leaving.value.code
        assert f"{place}/t/text/hashed-ngrams" in capsys.readouterr().out
