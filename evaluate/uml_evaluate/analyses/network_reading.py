"""What an analysis sees of a run without labels: the networks of one configuration, and what decides them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from uml_cache import InputError, unknown
from uml_train import CellResult, Pathways, Run, Shots, pathways, recorded_store


class NetworkReading:
    """One configuration of auxiliaries of a run with networks.

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
        self.run, self.cache = run, cache
        self.own_protocol = (run.config.get("protocol") or {"name": "fair"})["name"]
        self.protocol = protocol or self.own_protocol
        if run.config["objective"] not in ("ssl", "joint"):
            raise InputError(
                f"{run.path} trained heads on features, and these neurons are those of a shared network; "
                "`uml pretrain` trains some"
            )
        known = [tuple(labels) for labels in run.config["configurations"]]
        if auxiliaries is not None and tuple(auxiliaries) not in known:
            raise unknown("configuration", "+".join(auxiliaries), ("+".join(labels) for labels in known))
        self.auxiliaries: tuple[str, ...] = (
            tuple(auxiliaries) if auxiliaries is not None else known[0] if known else ()
        )
        cells = [r for r in run.cells if r.cell.auxiliaries == self.auxiliaries and self.auxiliaries]
        cells = [r for r in cells if shots is None or r.cell.shots in shots]
        if not cells:
            raise InputError(f"{run.path} has no finished network that was trained on another modality, too")
        self.shots: list[Shots] = list(dict.fromkeys(r.cell.shots for r in cells))
        last = self.shots[-1]
        # The probes of several shots look at the same networks: one of each is enough.
        self.cells: list[CellResult] = sorted(
            (r for r in cells if r.cell.shots == last), key=lambda r: (r.cell.control or "", r.cell.seed)
        )

    @property
    def classes(self) -> list[str]:
        return list(self.run.config["classes"])

    def pathways(self, result: CellResult) -> Pathways:
        """Activations on paired samples, as `uml_train.pathways` gives them."""
        return pathways(self.run, result, cache=self.cache)

    def require_unchanged(self) -> None:
        """Refuse what was read where a store has changed meanwhile, as `Reading.require_unchanged` does."""
        for label in self.run.config["stores"]:
            recorded_store(self.run, label, self.cache)

    def key(self, analysis: str, version: int, options: dict[str, Any]) -> str:
        """Digest of what a finding depends on: cells, stores, options and which snapshots there are."""
        asked = [analysis, version, self.auxiliaries, self.shots, options]
        asked += [] if self.protocol == "fair" else [self.protocol]
        digest = sha256(json.dumps(asked).encode())
        for label, store in self.run.config["stores"].items():
            digest.update(f"{label} {store['fingerprint']}".encode())
        for result in self.cells:
            digest.update(result.record_path.read_bytes())
        for path in sorted((self.run.path / "snapshots").glob("*.safetensors")):
            digest.update(path.name.encode())
        return digest.hexdigest()

    def command(self, analysis: str, options: dict[str, Any]) -> str:
        """What a person types to get the analysis again."""
        words = ["uml", "eval", "--analysis", analysis, "--runs", str(self.run.path)]
        if self.protocol != self.own_protocol:
            words += ["--protocol", self.protocol]
        if len(self.run.config["configurations"]) > 1:
            words += ["--aux", "+".join(self.auxiliaries)]
        return shlex.join(words)
