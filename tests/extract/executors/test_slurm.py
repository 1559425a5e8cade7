"""--executor slurm, against an `sbatch` that keeps what it is given; and the array it would start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uml_cache import verify
from uml_cache.cli import main
from uml_extract import extract
from uml_manifests import Manifest, write_manifest

Run = Callable[..., tuple[int, str, str]]

_SBATCH = """#!/bin/bash
printf '%s\\n' "$@" > "{folder}/arguments"
cp "${{@: -1}}" "{folder}/submitted"
{answer}
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an `sbatch` on PATH that answers with the given shell line."""

    def put(answer: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "sbatch").write_text(_SBATCH.format(folder=tmp_path, answer=answer))
        (folder / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return put


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["extract", *words, "--executor", "slurm"])
        out, err = capsys.readouterr()
        return int(leaving.value.code or 0), out, err

    return call


def test_the_script_line_by_line_and_its_jobs(
    run: Run, sbatch: Callable[[str], None], texts: Manifest, tmp_path: Path
) -> None:
    sbatch("echo '4711;cluster'")
    write_manifest(texts, tmp_path / "my texts")
    words = ["--encoder", "hashed-ngrams", "--data", "my texts", "--tokens", "--dtype", "float32"]
    options = ["--workers", "2", "--sbatch", "--gres=gpu:1 --time=4:00:00 --comment='two words'"]
    code, out, err = run(*words, *options, "--json")
    assert (code, err) == (0, "")
    script = tmp_path / "feats" / "slurm" / "toy-hashed-ngrams.sh"
    assert json.loads(out) == {"job": "4711", "script": str(script), "workers": 2}
    assert (tmp_path / "arguments").read_text().splitlines() == ["--parsable", str(script)]
    submitted = (tmp_path / "submitted").read_text()
    assert submitted.splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=uml-toy-hashed-ngrams",
        "#SBATCH --array=0-1",
        f"#SBATCH --output={tmp_path}/feats/slurm/%A_%a.log",
        f"#SBATCH --chdir={tmp_path}",
        "#SBATCH --requeue",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --time=4:00:00",
        "#SBATCH --comment='two words'",
        "set -euo pipefail",
        "# Each job of the array is one rank; a job that is requeued continues where it stopped.",
        "export RANK=$SLURM_ARRAY_TASK_ID WORLD_SIZE=2 LOCAL_RANK=0",
        "export TORCHELASTIC_RUN_ID=slurm-$SLURM_ARRAY_JOB_ID",
        f"exec {sys.executable} -m uml_cache extract --encoder hashed-ngrams --data '{tmp_path}/my texts' "
        f"--out {tmp_path}/feats --tokens --dtype float32 --executor torchrun --quiet",
    ]
    store = tmp_path / "feats" / "toy" / "text" / "hashed-ngrams@float32-tokens.zarr"
    assert not store.exists()  # nothing is planned where the script is submitted
    jobs = [
        subprocess.Popen(
            ["bash", str(script)],
            env={**os.environ, "SLURM_ARRAY_TASK_ID": str(at), "SLURM_ARRAY_JOB_ID": "4711"},
            stdout=subprocess.DEVNULL,
        )
        for at in range(2)
    ]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert verify(store).ok
    straight = extract(texts, "hashed-ngrams", out=tmp_path / "b", tokens=True, dtype="float32").store
    for path in straight.rglob("*"):
        if path.is_file() and path.parent.name != "journal":
            assert path.read_bytes() == (store / path.relative_to(straight)).read_bytes()


def test_what_can_go_wrong_is_one_line(
    run: Run, sbatch: Callable[[str], None], texts: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(texts, tmp_path / "texts")
    good = ["--encoder", "hashed-ngrams", "--data", "texts", "--workers", "2"]
    wrong = [
        (["--encoder", "hashed-ngrams", "--data", "texts"], 2, "needs --workers N"),
        (["--encoder", "hashed-ngrams", "--workers", "2"], 2, "needs --data"),
        ([*good[:-1], "0"], 2, "--workers is '0'"),
        ([*good, "--sbatch", "--gres gpu:1"], 2, "--name=value, not 'gpu:1'"),
        ([*good, "--sbatch", "--array=0-5"], 2, "the array is made by --workers"),
        ([*good, "--sbatch", "'"], 2, "No closing quotation"),
        (["--encoder", "pixels", *good[2:]], 2, "image is wanted"),
        (["--encoder", "hashed-ngram", *good[2:]], 2, "did you mean hashed-ngrams"),
    ]
    sbatch("echo 'sbatch: error: Batch job submission failed: Invalid partition' >&2; exit 1")
    for words, status, said in [*wrong, (good, 1, "sbatch refused")]:
        code, out, err = run(*words)
        assert (code, out) == (status, ""), words
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert said in err
    assert "Invalid partition" in err
    monkeypatch.setenv("PATH", "/nonexistent")
    code, _, err = run(*good)
    assert code == 2
    assert "sbatch is not installed here; submit" in err
