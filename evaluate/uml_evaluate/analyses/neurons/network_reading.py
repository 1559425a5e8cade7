"""What an analysis sees of a run without labels: the networks of one configuration."""

from __future__ import annotations

from uml_evaluate.analyses.part import NetworksPart
from uml_train import CellResult, Pathways, pathways, recorded_store


class NetworkReading(NetworksPart):
    """One configuration of auxiliaries of a run with networks, opened where something is asked of it."""

    def pathways(self, result: CellResult) -> Pathways:
        """Activations on paired samples, as `uml_train.pathways` gives them."""
        return pathways(self.run, result, cache=self.cache)

    def require_unchanged(self) -> None:
        """Refuse what was read where a store has changed meanwhile, as `Reading.require_unchanged` does."""
        for label in self.run.config["stores"]:
            recorded_store(self.run, label, self.cache)
