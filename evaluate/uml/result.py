"""What `fit` found: tables, a summary, pictures, a report, and the best model."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml.model import Model
from uml_evaluate import (
    Comparison,
    accuracy_figure,
    compare,
    ground,
    headline,
    open_predictor,
    points,
    summary,
    table,
    write_report,
)
from uml_train import Run

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from uml_manifests import Manifest

_FIRST = (
    "dataset", "target", "auxiliaries", "encoders", "method", "control", "objective", "trunk", "normalize",
    "texts", "grid", "shots", "label_budget", "mean", "std", "seeds",
)  # fmt: skip


class Result:
    """A finished run, as it is looked at from Python.

    Args:
        run: the run on disk; `uml eval`, `uml report` and `uml predict` read it, too.
        loading: name and weights that its encoder is loaded by.
        samples: what was embedded, by role, for the report to show.
    """

    def __init__(
        self,
        run: Run,
        loading: Mapping[str, str | None] | None = None,
        samples: Mapping[str, Manifest] | None = None,
    ) -> None:
        self.run = run
        self._samples = samples
        self._loading = dict(loading) if loading else None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """One for every configuration of unpaired data."""
        return compare(self.run)

    def table(self) -> pandas.DataFrame:
        """A row per method, control, configuration and shots: mean and std of the test accuracy in percent
        over the seeds, and what they were trained with. `auxiliaries` is a list."""
        import pandas

        rows = [row.to_json() for row in table(self.comparisons)]
        columns = [*_FIRST, *(name for name in rows[0] if name not in _FIRST)]
        return pandas.DataFrame(rows, columns=columns)

    def differences(self) -> pandas.DataFrame:
        """Paired differences between methods in points, with 95 % intervals and a verdict."""
        import pandas

        return pandas.DataFrame([d.to_json() for c in self.comparisons for d in c.differences])

    def summary(self) -> str:
        """What the unpaired data added: a sentence and bullet points for each configuration."""
        return "\n\n".join(summary(comparison) for comparison in self.comparisons)

    def plot(self, auxiliaries: Sequence[str] | None = None) -> Figure:
        """Test accuracy against labelled samples per class; of the first configuration, or the one named."""
        return accuracy_figure(self._comparison(auxiliaries))

    def report(self, path: str | Path, *, samples: bool = True, map: str = "pca") -> Path:
        """Write the HTML page; its figures and tables lie beside it.

        Args:
            samples: whether it shows samples, mistakes, a map and neighbours.
            map: how the map is made: `pca`, `tsne` or `umap`.
        """
        held = samples and (self._samples or True)
        return write_report(self.run.path, out=path, samples=held, map=map).path

    def best(
        self,
        *,
        method: str | None = None,
        shots: Any = None,
        seed: int | None = None,
        auxiliaries: Sequence[str] | None = None,
        refit: bool = True,
    ) -> Model:
        """The model that validated best, among those asked for, solved again on training and validation
        rows.

        Raises:
            InputError: the run has none of what is asked for.
        """
        predictor, _ = open_predictor(
            self.run.path, method=method, shots=shots, seed=seed, auxiliaries=auxiliaries, refit=refit,
            loading=self._loading,
        )  # fmt: skip
        return Model(predictor)

    def __repr__(self) -> str:
        return f"Result({str(self.run.path)!r})\n{self.summary()}"

    def _repr_html_(self) -> str:
        words = "".join(
            f"<p><b>{html.escape(headline(c))}</b> {html.escape(ground(c))}</p>"
            f"<details><summary>In full</summary><ul>{_items(points(c))}</ul></details>"
            for c in self.comparisons
        )
        frame = self.table()
        frame["method"] = [
            (f"{m}[{c}]" if c else m) + (f" ← {' + '.join(a)}" if a else "")
            for m, c, a in zip(frame["method"], frame["control"], frame["auxiliaries"], strict=True)
        ]
        cells = [
            f"{mean:.1f}" + (f" ± {std:.1f}" if std is not None and std == std else "")
            for mean, std in zip(frame["mean"], frame["std"], strict=True)
        ]
        frame = frame.assign(cell=cells).drop_duplicates(["method", "shots"])
        wide = frame.pivot(index="method", columns="shots", values="cell").reindex(
            index=list(dict.fromkeys(frame["method"])), columns=list(dict.fromkeys(frame["shots"]))
        )
        wide = wide.rename(columns=lambda k: "all labels" if k == "all" else f"{k} per class")
        wide = wide.rename_axis(index=None, columns=None)
        chance = self.comparisons[0].chance[0]
        what = f"Test accuracy in percent, mean ± standard deviation over draws; chance is {chance:.1f}."
        return f"{words}{wide.to_html(na_rep='–')}<p>{what}</p>"

    def _comparison(self, auxiliaries: Sequence[str] | None) -> Comparison:
        from uml_cache import unknown

        if auxiliaries is None:
            return self.comparisons[0]
        wanted = tuple([auxiliaries] if isinstance(auxiliaries, str) else auxiliaries)
        for comparison in self.comparisons:
            if comparison.auxiliaries == wanted:
                return comparison
        there = {"+".join(c.auxiliaries) for c in self.comparisons}
        raise unknown("auxiliaries", "+".join(wanted), there)


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(text)}</li>" for text in texts)
