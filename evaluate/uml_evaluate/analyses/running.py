"""Analyses of a run: what is unchanged is read, the rest computed, stored with the run and drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, Output
from uml_evaluate.analyses import ON_NETWORKS, module_of
from uml_evaluate.analyses.finding import Finding, NotPossible, draw, file_stem, load, save
from uml_evaluate.analyses.neurons.network_reading import NetworkReading
from uml_evaluate.analyses.reading import Reading
from uml_train import DamagedFile, store_remarks

if TYPE_CHECKING:
    from uml_train import Run, Shots


@dataclass(frozen=True)
class Analyses:
    """Findings by analysis, the files of their figures, and which of them were computed now."""

    run: Run
    findings: list[Finding]
    figures: list[Path]
    computed: list[str]

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --analysis … --json`."""
        return {
            "run": str(self.run.path),
            "analyses": [finding.to_json() for finding in self.findings],
            "computed": self.computed,
            "figures": [str(path) for path in self.figures],
            "rows": self.run.config.get("used", {}),
        }

    def text(self) -> str:
        """Every finding, for the terminal."""
        parts = [finding.text() for finding in self.findings]
        where = "\n".join(f"figure  {path}" for path in self.figures if path.suffix == ".png")
        return "\n\n\n".join([*parts, where] if where else parts)


def analyse(
    run: Run,
    names: Sequence[str],
    *,
    auxiliaries: Sequence[str] | None = None,
    shots: Sequence[Shots] | None = None,
    cache: Path | None = None,
    protocol: str | None = None,
    options: Mapping[str, dict[str, Any]] | None = None,
    output: Output = QUIET,
) -> Analyses:
    """Run analyses by name and store them in the run's folder `analyses`, figures in its `figures`.

    A second call computes nothing that is unchanged: cells, stores, options and the analysis itself.

    Args:
        auxiliaries: the configuration; None takes the run's first.
        shots: None takes all of the run.
        cache: where the run's stores are now, if they have moved.
        protocol: whose reading of an analysis comes first; None: the run's.
        options: keyword arguments of an analysis, by its name: `pair` of boundary, `manifest` of exchange.

    Raises:
        InputError: stores that are gone or have changed, unknown shots or configurations, damaged files.
        NotPossible: none of the analyses has anything to look at in this run.
    """
    for remark in store_remarks(run, cache):
        output.say(remark)
    readings: dict[bool, Reading | NetworkReading] = {}
    done = Analyses(run, [], [], [])
    refusals: list[NotPossible] = []
    for name in names:
        networks, chosen = name in ON_NETWORKS, dict((options or {}).get(name, {}))
        if networks not in readings:
            kind = NetworkReading if networks else Reading
            readings[networks] = kind(
                run, auxiliaries=auxiliaries, shots=shots, cache=cache, protocol=protocol
            )
        reading = readings[networks]
        key = reading.key(name, module_of(name).VERSION, chosen)
        finding = _stored(run, name, reading, output)
        if finding is None or finding.key != key:
            finding = replace(_found(reading, name, chosen, refusals, output), key=key)
            _keep(finding, reading, output)
            done.computed.append(name)
            output.say(f"{name}: {finding.seconds:.1f} s")
        done.findings.append(finding)
        there = [run.path / "figures" / f"{finding.name}.{kind}" for kind in ("png", "svg")]
        if name not in done.computed and all(path.is_file() for path in there):
            done.figures.extend(there)
        else:
            done.figures.extend(_drawn(finding, run.path / "figures", output))
    if refusals and len(refusals) == len(names):
        raise refusals[0]
    return done


def _found(
    reading: Reading | NetworkReading,
    name: str,
    chosen: dict[str, Any],
    refusals: list[NotPossible],
    output: Output,
) -> Finding:
    """Look, and say how long it took and how it is asked for again."""
    began = time.perf_counter()
    extra = {"output": output} if name == "exchange" else {}
    finding = _computed(module_of(name), name, reading, {**chosen, **extra}, refusals)
    return replace(
        finding,
        values={**finding.values, "protocol": reading.protocol},
        shots=reading.shots,
        options=chosen,
        seconds=round(time.perf_counter() - began, 2),
        command=reading.command(name, chosen),
    )


def _keep(finding: Finding, reading: Reading | NetworkReading, output: Output) -> None:
    """Store a finding with its run, unless a store has changed while it was computed."""
    reading.require_unchanged()
    try:
        save(finding, reading.run.path)
    except OSError as error:
        where = reading.run.path / "analyses"
        output.say(f"{where} cannot be written ({error.strerror}); nothing was stored")


def _stored(run: Run, name: str, reading: Reading | NetworkReading, output: Output) -> Finding | None:
    """What the run holds of an analysis; a damaged finding is as good as none, and that is said."""
    try:
        return load(run.path / "analyses" / f"{file_stem(name, reading.auxiliaries)}.json")
    except DamagedFile as damaged:
        output.say(f"{damaged.path} {damaged.why}; it is computed again")
        return None


def _drawn(finding: Finding, folder: Path, output: Output) -> list[Path]:
    try:
        drawn = draw(finding, folder)
    except OSError as error:
        output.say(f"{folder} cannot be written ({error.strerror}); no figure was saved")
        return []
    return [] if drawn is None else drawn.files


def _computed(
    module: Any,
    name: str,
    reading: Reading | NetworkReading,
    options: dict[str, Any],
    refusals: list[NotPossible],
) -> Finding:
    """The finding, or one that says why there is none."""
    try:
        return module.analyse(reading, **options)
    except NotPossible as refusal:
        refusals.append(refusal)
        return Finding(
            analysis=name,
            title=module.TITLE,
            paper=module.PAPER,
            auxiliaries=reading.auxiliaries,
            said=[f"Not possible here: {refusal}."],
            notes=[],
            tables=[],
            values={"refused": str(refusal)},
        )
