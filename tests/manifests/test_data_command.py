"""`uml data`: what it prints and writes, and one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uml_cache.cli import main
from uml_manifests import load_manifest, render_shapes


@pytest.fixture
def uml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            path = tmp_path / "zoo" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 20 * number + label, dtype=np.uint8)).save(path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["data", *arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_list_and_show(uml: Any) -> None:
    code, out, _ = uml("list", "--json")
    assert code == 0
    assert "oxford_pets" in [row["name"] for row in json.loads(out)]
    code, out, _ = uml("show", "oxford_pets", "--json")
    value = json.loads(out)
    assert value["sizes"] == [2944, 736, 3669]
    assert value["manifests"] == []
    assert "split_zhou_OxfordPets.json" in uml("show", "oxford_pets")[1]


def test_build_text_split(uml: Any, tmp_path: Path) -> None:
    code, out, _ = uml("build", "zoo", "--root", "zoo", "--json")
    built = json.loads(out)
    assert code == 0
    assert (built["samples"], built["classes"], built["modality"]) == (20, 2, "image")
    assert load_manifest("data/zoo/image").path(0) == tmp_path / "zoo/cat/0.png"
    assert uml("text", "zoo", "--templates", "vanilla")[0] == 0
    assert load_manifest("data/zoo/text.vanilla").sources == ["a photo of a cat.", "a photo of a dog."]
    (tmp_path / "d.json").write_text('{"Dog": ["barks", "runs"], "yak": ["grunts"]}')
    code, _, err = uml("text", "data/zoo/image", "--descriptions", "d.json", "--set", "cupl")
    assert code == 0
    assert "1 classes have no text: cat" in err
    assert "1 descriptions fit no class: yak" in err
    assert load_manifest("data/zoo/text.cupl").missing_classes == ("cat",)
    code, out, err = uml("split", "zoo", "--shots", "2", "--seed", "3", "--json")
    drawn = json.loads(out)
    assert drawn["train"] == drawn["val"] == 4
    assert "has no splits: drawn from a stratified 60/20/20" in err
    assert len(json.loads(Path(drawn["index"]).read_text())["train"]["data"]) == 4
    assert drawn["index"] == "data/zoo/image/draws/shot_2-seed_3.json"
    listed = {row["name"]: row["built"] for row in json.loads(uml("list", "--json")[1])}
    assert listed["zoo"] == ["image", "text.cupl", "text.vanilla"]
    assert "20 samples, 2 classes" in uml("show", "zoo")[1]


def test_build_from_csv(uml: Any, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,path,label\n1,zoo/cat/0.png,cat\n2,zoo/cat/none.png,cat\n")
    code, out, err = uml("build", "pics", "--root", "p.csv", "--out", "here", "--json")
    assert code == 0
    assert json.loads(out)["missing_files"] == 1
    assert "1 files are missing, for example zoo/cat/none.png" in err
    assert load_manifest("here").name == "pics"


def test_texts_and_draws_of_shapes(uml: Any) -> None:
    render_shapes("data/shapes", train=2, val=2, test=1, texts=1)
    assert uml("text", "shapes", "--templates", "handwritten")[0] == 0
    assert len(load_manifest("data/shapes/text.handwritten")) == 3 * 48
    assert (
        json.loads(uml("split", "shapes", "--shots", "2", "--modality", "audio", "--json")[1])["train"] == 96
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("show oxfordpets", "did you mean oxford_pets, oxford_flowers?"),
        ("build oxford_pets --root zoo", "split_zhou_OxfordPets.json: no such file"),
        ("build oxford_pets --root none", "no such folder; expected images/*.jpg"),
        ("build shapes --root zoo", "shapes is rendered, not built"),
        ("build gaussian --root zoo", "gaussian is drawn by `uml reproduce gaussian`"),
        ("split gaussian --shots 1 --seed 1", "it has no samples on disk"),
        ("build new --root none", "none: no such folder"),
        ("build new --root none.csv", "none.csv: no such file"),
        ("build new --root files.csv", "none of its 1 files is in"),
        ("build new", "Missing option '--root'"),
        ("build new --root none.csd", "none.csd: no such file"),
        ("build zoo --root zoo --option a=b", "zoo is no known data set, so it has no options"),
        ("build esc50 --root zoo", "zoo/meta/esc50.csv: no such file; expected in --root: audio/*.wav"),
        ("build esc50 --root zoo --option a", "--option is 'a'; give NAME=VALUE"),
        (
            "build mosi --root zoo --option trm=own",
            "unknown option of data set 'mosi': 'trm'; did you mean trim?",
        ),
        ("build mosi --root zoo --option trim=x --option trim=y", "--option trim is given twice"),
        ("build mosi --root zoo", "mosi_raw.pkl: no such file (nor mosi_data.pkl, mosi.pkl)"),
        ("build mosi --root zoo/cat/0.png", "zoo/cat/0.png: is no"),
        ("text zoo --texts none.jsonl", "none.jsonl: no such file"),
        ("text zoo", "give either --templates vanilla|classname|handwritten, --descriptions FILE or --texts"),
        ("text zoo --templates vanila", "did you mean vanilla?"),
        ("text zoo --descriptions none.json", "none.json: no such file"),
        ("text zzz --templates vanilla", "no folder, file or data set 'zzz'"),
        ("split zoo --shots 0", "shots must be at least 1, got 0"),
        ("split zoo --shots 90", "class 'cat' has 6 train samples, but 90 per class"),
        ("split zoo --shots many", "'many' is not a valid integer"),
    ],
)
def test_mistakes_are_one_line(uml: Any, tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "files.csv").write_text("id,path,label\n1,none.png,x\n")
    code, out, err = uml(*arguments.split(), "--quiet")
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert message in err


@pytest.mark.parametrize("command", ["", "list", "show", "build", "text", "split"])
def test_help_is_light_and_ends_with_an_example(command: str) -> None:
    script = (
        "import sys\nfrom uml_cache.cli import root\n"
        f"root.main(['data', *{command.split()}, '--help'], prog_name='uml', standalone_mode=False)\n"
        "heavy = {'numpy', 'torch', 'PIL', 'zarr', 'transformers', 'timm'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example:" in done.stdout
    assert done.stdout.strip().splitlines()[-1].strip().startswith("uml data ")
