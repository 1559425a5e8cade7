"""The part of a run that an analysis looks at: one configuration, its cells, and what decides a finding.

Nothing here opens a store or a head: `uml report` tells without torch which findings are up to date.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, unknown
from uml_evaluate.comparing.rows import ALONE, PROBES, Arm, arm_order, shots_order
from uml_train import CellResult, Run, protocol_value, require_heads

if TYPE_CHECKING:
    from uml_train import Shots


class RunPart:
    """One configuration of auxiliaries of a run.

    Args:
        configurations: those that the run has; the first is taken where none is asked for.
        auxiliaries: the configuration that is asked for.
        cache: where the stores are now, if they have moved.
        protocol: whose reading of an analysis comes first; None: the run's.

    Raises:
        InputError: a configuration that the run does not have.
    """

    cells: list[CellResult]
    shots: list[Shots]

    def __init__(
        self,
        run: Run,
        configurations: Sequence[tuple[str, ...]],
        auxiliaries: Sequence[str] | None,
        cache: Path | None,
        protocol: str | None,
    ) -> None:
        self.run, self.cache = run, cache
        self.own_protocol = (run.config.get("protocol") or {"name": "fair"})["name"]
        self.protocol = protocol or self.own_protocol
        known = list(configurations) or [()]
        if auxiliaries is not None and tuple(auxiliaries) not in known:
            raise unknown("configuration", "+".join(auxiliaries), ("+".join(labels) for labels in known))
        self.auxiliaries: tuple[str, ...] = known[0] if auxiliaries is None else tuple(auxiliaries)

    @property
    def classes(self) -> list[str]:
        """The run's classes, by label."""
        return list(self.run.config["classes"])

    def choice(self, analysis: str) -> str:
        """Which reading of an analysis comes first, as `protocols.toml` has it."""
        return str(protocol_value(self.protocol, "analyses", analysis))

    def key(self, analysis: str, version: int, options: dict[str, Any]) -> str:
        """Digest of what a finding depends on: the records of the cells, the stores, the options."""
        asked = [analysis, version, self.auxiliaries, self.shots, options]
        asked += [] if self.protocol == "fair" else [self.protocol]
        digest = sha256(json.dumps(asked).encode())
        for label, store in self.run.config["stores"].items():
            digest.update(f"{label} {store['fingerprint']}".encode())
        for result in self.cells:
            digest.update(result.record_path.read_bytes())
        for name in self.extras():
            digest.update(name.encode())
        return digest.hexdigest()

    def extras(self) -> list[str]:
        """Names of what a finding depends on beside cells, stores and options."""
        return []

    def command(self, analysis: str, options: dict[str, Any]) -> str:
        """What a person types to get the analysis again."""
        words = ["uml", "eval", "--analysis", analysis, "--runs", str(self.run.path)]
        if self.protocol != self.own_protocol:
            words += ["--protocol", self.protocol]
        if len(self.run.config["configurations"]) > 1:
            words += ["--aux", "+".join(self.auxiliaries)]
        return shlex.join([*words, *self.words(options)])

    def words(self, options: dict[str, Any]) -> list[str]:
        """The options of the command that only this kind of run has."""
        return []


class HeadsPart(RunPart):
    """One configuration of a run with heads, at some numbers of shots.

    Args:
        auxiliaries: the configuration; None takes the run's first.
        shots: None takes all that the run has finished.
        cache: where the stores are now, if they have moved.
        protocol: whose reading of an analysis comes first; None: the run's.

    Raises:
        InputError: a configuration or shots that the run does not have.
    """

    def __init__(
        self,
        run: Run,
        *,
        auxiliaries: Sequence[str] | None = None,
        shots: Sequence[Shots] | None = None,
        cache: Path | None = None,
        protocol: str | None = None,
    ) -> None:
        require_heads(run, pooled=True)
        configurations = [tuple(labels) for labels in run.config["configurations"]]
        super().__init__(run, configurations, auxiliaries, cache, protocol)
        # Heads of the run itself: `auto` is one of them once more, and rivals have no shared space.
        cells = [r for r in run.cells if r.chosen is None and r.cell.method not in PROBES]
        has = sorted({r.cell.shots for r in cells}, key=shots_order)
        if missing := [k for k in shots or () if k not in has]:
            raise InputError(
                f"{run.path} has no cell at {', '.join(map(str, missing))} shots, only at "
                f"{', '.join(map(str, has))}; `uml eval --probe fewshot --k {missing[0]}` trains them"
            )
        self.shots = [k for k in has if shots is None or k in shots]
        mine = [r for r in cells if r.cell.auxiliaries == self.auxiliaries and self.auxiliaries]
        widths = {(r.cell.shared_width, r.cell.aligned) for r in mine}
        self.cells = sorted(
            (
                r
                for r in cells
                if r.cell.shots in self.shots
                and (
                    r.cell.auxiliaries == self.auxiliaries
                    if r.cell.method not in ALONE
                    else r.cell.method == "unimodal"
                    or not widths
                    or (r.cell.shared_width, r.cell.aligned) in widths
                )
            ),
            key=lambda r: (arm_order(arm_of(r)), shots_order(r.cell.shots), r.cell.seed),
        )
        if not self.cells:
            raise InputError(f"{run.path} has no finished cell with {'+'.join(self.auxiliaries)}")

    @property
    def arms(self) -> list[Arm]:
        """Methods and controls, in the order of the ladder."""
        return list(dict.fromkeys(arm_of(r) for r in self.cells))

    def of(self, arm: Arm, shots: Shots | None = None) -> list[CellResult]:
        """The cells of a method, one per seed (and shots, where None), by seed."""
        return [r for r in self.cells if arm_of(r) == arm and shots in (None, r.cell.shots)]

    def words(self, options: dict[str, Any]) -> list[str]:
        """The options of the command that only this kind of run has."""
        words = [] if "all" in self.shots else ["--k", ",".join(map(str, self.shots))]
        for name, value in options.items():
            words += [f"--{name}", *([value] if isinstance(value, str) else value)]
        return words


class NetworksPart(RunPart):
    """One configuration of a run with networks, that is of one without labels.

    Args:
        auxiliaries: the configuration; None takes the run's first.
        shots: of the probes; None takes all that the run has finished.
        cache: where the stores are now, if they have moved.
        protocol: whose reading of an analysis comes first; None: the run's.

    Raises:
        InputError: a run with heads, or a configuration that it does not have.
    """

    def __init__(
        self,
        run: Run,
        *,
        auxiliaries: Sequence[str] | None = None,
        shots: Sequence[Shots] | None = None,
        cache: Path | None = None,
        protocol: str | None = None,
    ) -> None:
        if run.config["objective"] not in ("ssl", "joint"):
            raise InputError(
                f"{run.path} trained heads on features, and these neurons are those of a shared network; "
                "`uml pretrain` trains some"
            )
        configurations = [tuple(labels) for labels in run.config["configurations"]]
        super().__init__(run, configurations, auxiliaries, cache, protocol)
        cells = [r for r in run.cells if r.cell.auxiliaries == self.auxiliaries and self.auxiliaries]
        cells = [r for r in cells if shots is None or r.cell.shots in shots]
        if not cells:
            raise InputError(f"{run.path} has no finished network that was trained on another modality, too")
        self.shots = list(dict.fromkeys(r.cell.shots for r in cells))
        last = self.shots[-1]
        # The probes of several shots look at the same networks: one of each is enough.
        self.cells = sorted(
            (r for r in cells if r.cell.shots == last), key=lambda r: (r.cell.control or "", r.cell.seed)
        )

    def extras(self) -> list[str]:
        """Which snapshots there are."""
        return sorted(path.name for path in (self.run.path / "snapshots").glob("*.safetensors"))


def arm_of(result: CellResult) -> Arm:
    """Method and control of a cell."""
    return result.cell.method, result.cell.control
