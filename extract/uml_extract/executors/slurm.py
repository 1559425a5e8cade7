"""Slurm: an array whose jobs are ranks. Each job runs `uml extract --executor torchrun` with its own RANK.

Nothing is planned or loaded where the script is submitted: login nodes have other devices than the nodes that
do the work. The jobs plan the store among themselves; whoever is first makes it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml_cache import InputError, WorkError, write_atomic
from uml_extract.settings import ExtractSettings

_PLAIN = re.compile(r"[\w@%+=:,./-]*")
_PATHS = ("data", "root", "out", "weights")


@dataclass(frozen=True)
class Submitted:
    """What `submit` did: Slurm's job id, the script, and how many jobs its array has."""

    job: str
    script: Path
    workers: int

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml extract --executor slurm --json`."""
        return {"job": self.job, "script": str(self.script), "workers": self.workers}


def extract_command(settings: ExtractSettings) -> list[str]:
    """The `uml extract` command of one rank, which does what `settings` say wherever it runs."""
    given = {name: getattr(settings, name) for name in _PATHS}
    places = {n: os.path.abspath(v) for n, v in given.items() if v and (n == "out" or Path(v).exists())}
    one = replace(settings, **places, executor="torchrun", workers=None, sbatch="")
    return [sys.executable, "-m", "uml_cache", "extract", *one.words("extract"), "--quiet"]


def script_text(name: str, command: Sequence[str], *, workers: int, sbatch: str, logs: Path) -> str:
    """The script: `workers` array jobs, each a rank; `sbatch` are further options, a line each.

    Raises:
        InputError: an option that is of another form, or that `workers` stands for.
    """
    try:
        extra = shlex.split(sbatch)
    except ValueError as error:
        raise InputError(f"--sbatch {sbatch!r}: {error}") from None
    for option in extra:
        if not option.startswith("-"):
            raise InputError(f"--sbatch {sbatch!r}: write options as --name=value, not {option!r}")
        if option.startswith(("--array", "-a", "--wrap")):
            raise InputError(f"--sbatch {option!r}: the array is made by --workers")
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=uml-{name}",
        f"#SBATCH --array=0-{workers - 1}",
        _directive(f"--output={str(logs).replace('%', '%%')}/%A_%a.log"),
        _directive(f"--chdir={os.getcwd()}"),
        "#SBATCH --requeue",
        *map(_directive, extra),
        "set -euo pipefail",
        "# Each job of the array is one rank; a job that is requeued continues where it stopped.",
        f"export RANK=$SLURM_ARRAY_TASK_ID WORLD_SIZE={workers} LOCAL_RANK=0",
        "export TORCHELASTIC_RUN_ID=slurm-$SLURM_ARRAY_JOB_ID",
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _directive(option: str) -> str:
    """One line of the script; a value that would end the line is refused, for what follows would be run."""
    if not option.isprintable():
        raise InputError(f"{option!r} holds a line break or another control character, which no script can")
    name, equals, value = option.partition("=")
    return f"#SBATCH {name}{equals}{value if _PLAIN.fullmatch(value) else shlex.quote(value)}"


def submit(name: str, settings: ExtractSettings) -> Submitted:
    """Write the script below the cache folder and hand it to `sbatch`.

    Raises `InputError` where there is no `sbatch` (the script stays) and `WorkError` when it refuses.
    """
    workers = settings.workers or 1
    clean = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    folder = Path(os.path.abspath(settings.out)) / "slurm"
    script = folder / f"{clean}.sh"
    command = extract_command(settings)
    text = script_text(clean, command, workers=workers, sbatch=settings.sbatch, logs=folder)
    write_atomic(script, text.encode())
    if shutil.which("sbatch") is None:
        raise InputError(f"sbatch is not installed here; submit {script} on a machine that has it")
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    job = done.stdout.strip().partition(";")[0]
    if done.returncode != 0 or not job:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise WorkError(f"sbatch refused {script}: {said}")
    return Submitted(job, script, workers)
