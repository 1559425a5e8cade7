"""`uml eval --analysis`: from what was typed to findings, printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uml_cache import InputError, Output, declared, used_lines, write_left_out
from uml_evaluate.analyses import named
from uml_evaluate.analyses.running import analyse
from uml_train import TrainSettings, left_out_of, newest_run


def run_asked(
    output: Output,
    *,
    analysis: str,
    runs: Path,
    k: str | None,
    cache: Path | None,
    aux: str | None,
    pair: tuple[str, str] | None,
    manifest: Path | None,
    designs: Path | None = None,
    protocol: str | None = None,
    left_out: str | None = None,
) -> None:
    """Analyse the newest run, or given designs. Raises `InputError` for what fits nothing."""
    asked = _parts(analysis, ",")
    named(asked)  # an unknown name is said before any run is looked for
    if not asked:
        raise InputError("--analysis names nothing; give margin, silhouette, … or all")
    for option, value, owner in (("--pair", pair, "boundary"), ("--manifest", manifest, "exchange")):
        if value and not {owner, "all"} & set(asked):
            raise InputError(f"{option} belongs to --analysis {owner}, which is not asked for")
    if designs is not None:
        from uml_evaluate.analyses.information.linear_theory import on_designs, read_designs

        if asked != ["theory"]:
            raise InputError("--designs belongs to --analysis theory, which reads no run then; give it alone")
        if left_out is not None:
            raise InputError("--left-out is about the rows of a run, and --designs reads none; leave it out")
        output.result(*on_designs(*read_designs(designs)))
        return
    options: dict[str, dict[str, Any]] = {}
    if pair:
        options["boundary"] = {"pair": list(pair)}
    if manifest is not None:
        options["exchange"] = {"manifest": str(manifest)}
    run = newest_run(runs)
    output.say(f"newest run: {run.path}")
    names = named(asked, networks=run.config["objective"] in ("ssl", "joint"))
    found = analyse(
        run,
        names,
        auxiliaries=None if aux is None else _parts(aux, "+"),
        shots=None if k is None else declared(TrainSettings)["shots"].read(k, "--k"),
        cache=cache,
        protocol=protocol,
        options=options,
        output=output,
    )
    if left_out is not None:
        write_left_out(Path(left_out), left_out_of(run, cache))
    answer = found.to_json()
    output.result(answer, found.text())
    for line in used_lines(answer["rows"]):
        output.say(line)


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]
