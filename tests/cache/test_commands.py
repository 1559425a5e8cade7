"""`uml cache` as a user meets it: text, JSON, exit codes, one-line errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr

from uml_cache.cli import main

Maker = Callable[..., Any]


@pytest.fixture
def uml(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["cache", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(leaving.value.code or 0), captured.out, captured.err

    return run


def test_ls(sealed: Any, uml: Any) -> None:
    code, out, err = uml("ls", sealed.path.parents[2])
    assert (code, err) == (0, "")
    header, line = out.splitlines()
    assert header.split() == ["path", "dataset", "modality", "encoder", "rows", "dim", "sealed"]
    assert line.split() == [str(sealed.path), "pets", "image", "hf:org/net", "300", "32", "yes"]


def test_ls_json(sealed: Any, uml: Any) -> None:
    entry = json.loads(uml("ls", sealed.path.parents[2], "--json")[1])[0]
    assert entry["path"] == str(sealed.path)
    assert (entry["sealed"], entry["rows"], entry["encoder"]) == (True, 300, "hf:org/net")


def test_info_json(sealed: Any, uml: Any) -> None:
    info = json.loads(uml("info", sealed.path, "--json")[1])
    assert info["encoder"] == sealed.plan.encoder
    assert info["fingerprint"] == sealed.store.fingerprint
    assert info["plan"] == sealed.plan.digest
    pooled = info["arrays"]["pooled"]
    assert (pooled["shape"], pooled["dtype"]) == ([300, 32], "float16")
    assert pooled["bytes"] >= 300 * 32 * 2
    assert set(info["arrays"]) == {
        "pooled", "tokens/values", "tokens/start", "tokens/length", "label", "split", "id", "group", "status"
    }  # fmt: skip


def test_info_of_an_unfinished_store(maker: Maker, uml: Any) -> None:
    made = maker().fill([1])
    code, out, _ = uml("info", made.path)
    assert code == 0
    assert "not finished, 1 of 5 tasks" in out
    assert "no (1/5 tasks)" in uml("ls", made.path)[1]


def test_verify(maker: Maker, uml: Any) -> None:
    made = maker().fill()
    code, out, _ = uml("verify", made.path, "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["sealed"], report["bad"]) == (0, True, True, [])
    shard = made.path / "pooled/c/3/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    code, out, err = uml("verify", made.path, "--json")
    bad = json.loads(out)["bad"]
    assert (code, err) == (1, "")
    assert [(entry["array"], entry["shard"]) for entry in bad] == [("pooled", "c/3/0")]
    code, out, _ = uml("verify", made.path)
    assert code == 1
    assert "bad: pooled c/3/0" in out


def test_verify_a_whole_cache(maker: Maker, uml: Any, tmp_path: Path) -> None:
    cache = tmp_path / "feats"
    sound, other = cache / "a" / "sound.zarr", cache / "b" / "other.zarr"
    shutil.copytree(maker().fill().path, sound)
    code, out, _ = uml("verify", cache)
    assert code == 0
    assert out.splitlines()[-1] == "1 of 1 stores are sound and finished"
    zarr.create_group(cache / "foreign" / "net.zarr")
    shutil.copytree(sound, other)
    with (other / "pooled/c/3/0").open("r+b") as stream:
        stream.truncate(7)
    code, out, _ = uml("verify", cache)
    assert code == 1
    assert f"{sound} is sound" in out
    assert f"{other} is damaged: 1 of" in out
    assert "cannot be verified" in out
    assert "1 of 3 stores are sound and finished" in out
    code, out, _ = uml("verify", cache, "--json")
    stores = {Path(entry["path"]): entry for entry in json.loads(out)["stores"]}
    assert {path: entry["ok"] for path, entry in stores.items()} == {
        sound: True, other: False, cache / "foreign" / "net.zarr": False,
    }  # fmt: skip
    assert stores[other]["bad"][0]["shard"] == "c/3/0"


def test_verify_an_unfinished_store(maker: Maker, uml: Any) -> None:
    code, out, _ = uml("verify", maker().fill([0]).path)
    assert code == 1
    assert "not sealed" in out


def test_wrong_paths_get_one_line(tmp_path: Path, uml: Any) -> None:
    (tmp_path / "file").write_text("x")
    zarr.create_group(tmp_path / "foreign" / "net.zarr")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn" / "net.zarr").mkdir(parents=True)
    (tmp_path / "torn" / "net.zarr" / "zarr.json").write_text('{"zarr_format"')
    wrong = [
        (("ls", tmp_path / "none"), 2, "does not exist"),
        (("ls", tmp_path / "file"), 2, "is a file"),
        (("ls", tmp_path / "empty"), 2, "no feature store under"),
        (("ls", tmp_path / "foreign"), 2, "neither an array `pooled` nor tokens"),
        (("ls", tmp_path / "torn"), 1, "is damaged"),
        (("info", tmp_path / "empty"), 2, "is no feature store"),
        (("info", tmp_path / "file"), 2, "is no feature store"),
        (("info", tmp_path / "none.zarr"), 2, "there is no store at"),
        (("info",), 2, "Missing argument"),
        (("verify", tmp_path / "none.zarr"), 2, "does not exist"),
        (("verify", tmp_path / "foreign" / "net.zarr"), 2, "no journal"),
    ]
    for arguments, status, words in wrong:
        code, out, err = uml(*arguments)
        assert (code, out) == (status, ""), arguments
        assert err.startswith("error: ")
        assert words in err
        assert len(err.splitlines()) == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom uml_cache.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        "heavy = {'torch', 'zarr', 'numpy', 'uml_cache.store.feature_store'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["cache", "--help"], ["cache", "verify", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "uml cache verify ./feats" in done.stdout
