"""What a sample of another modality is worth, in samples of the target (paper 4.4, E.4).

Shapes: K numbers of target samples per class, T numbers of auxiliary samples per class, S seeds.

A plane is fitted to the accuracy over the grid, in doublings of both:

    accuracy(k, n) = a + b · log2 k + c · log2 n

On an isoline of this plane the marginal rate of substitution, auxiliary samples per target sample, is
(∂acc/∂k) / (∂acc/∂n) = (b / c) · (n / k). The ratio b / c is the same everywhere, the rate is not: it is
given at the grid's geometric centre. Each seed's grid has a plane of its own, so that what its cells share
(the draw) cannot narrow the interval; Fieller's interval of the ratio is over seeds. A slope c that may be 0
has no finite interval, and then there is no rate.

The paper fits a plane to accuracy over the numbers of image and text shots, reads one rate off its isolines
for a data set, the same at every point, and gives it in words. It does not say whether the axes are
logarithmic, nor how texts become words. A plane in the numbers themselves, whose rate is b / c everywhere, is
fitted beside ours and told in the notes, without an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.exchange.exchange_grid import Grid, accuracy_grid
from uml_evaluate.analyses.exchange.exchange_plane import PlaneFit, Rate, constant_rate, fit_plane, rate_of
from uml_evaluate.analyses.finding import Finding, Table
from uml_evaluate.analyses.reading import Reading, mean_std_text
from uml_evaluate.comparing.shown.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from uml_cache import Output

VERSION = 3
TITLE = "What a modality is worth"
PAPER = "4.4, E.4"
_DARK = "#101010"


def analyse(reading: Reading, *, manifest: str | None = None, output: Output | None = None) -> Finding:
    """Train the method with data over (target samples, auxiliary samples) per class and fit the plane.

    Args:
        manifest: the auxiliary texts' manifest, whose words are counted; None looks beside the cache.
        output: where training reports its progress.
    """
    grid = accuracy_grid(reading, manifest, output)
    fit = fit_plane(grid.shots, grid.texts, grid.accuracy)
    linear = fit_plane(grid.shots, grid.texts, grid.accuracy, logs=False)
    rate = rate_of(fit, grid.shots, grid.texts)
    said = [_sentence(reading, grid, rate), _constant(linear, grid.words)]
    if reading.choice("exchange") == "numbers":
        said.reverse()
    return Finding(
        analysis="exchange",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=[*said, _slopes(reading, grid, fit), *_below(grid)],
        notes=[
            f"{grid.method} on {' + '.join(reading.auxiliaries)}, {len(grid.seeds)} seeds, "
            f"{grid.accuracy[0].size} cells each, everything else as in the run; target samples per class "
            f"{', '.join(map(str, grid.shots))}, auxiliary samples per class "
            f"{', '.join(map(str, grid.texts))}, "
            "drawn at random. The row without auxiliary is unimodal-deep, which is not part of the fit.",
            f"The plane in doublings explains {100 * fit.r2:.1f} % of the variance of the cells' means, one "
            f"in the numbers themselves {100 * linear.r2:.1f} %. The rate changes along the grid as n / k; "
            f"it is given at its geometric centre, k = {rate.k:.1f} and n = {rate.n:.1f}, and holds in the "
            "grid only.",
            "The label budget counts a cell's labelled target samples, those for training and those for "
            "validation. Auxiliary samples carry a class too: that label is not counted.",
            *grid.remarks,
            "Fieller's interval over seeds; all seeds share one test set, which it does not cover.",
        ],
        tables=_tables(grid),
        values={
            "shots": grid.shots, "texts": grid.texts, "seeds": grid.seeds, "method": grid.method,
            "accuracy": grid.accuracy.tolist(), "without": grid.without, "label_budget": grid.label_budgets,
            "intercept": fit.intercept, "slope_k": fit.slope_k, "slope_n": fit.slope_n, "r2": fit.r2,
            "r2_linear": linear.r2, "rate_linear": constant_rate(linear),
            "slopes_by_seed": fit.by_seed.tolist(),
            "rate": rate.times(), "rate_words": None if grid.words is None else rate.times(grid.words),
            "words_per_text": grid.words, "at": {"k": rate.k, "n": rate.n}, "refusal": rate.refusal,
            "target": reading.problem.target.label, "auxiliary": " + ".join(reading.auxiliaries),
        },
        caption=(
            f"Test accuracy (%) of {grid.method} over labelled target samples and auxiliary samples per "
            f"class, mean over {len(grid.seeds)} seeds. Shading: the cells; lines: isolines of the fitted "
            "plane."
        ),
    )  # fmt: skip


def figure(finding: Finding) -> Figure | None:
    """The grid's accuracies with the isolines of the plane, on axes of doublings."""
    from matplotlib import colormaps, colors

    values = finding.values
    shots, texts = values["shots"], values["texts"]
    mean = np.mean(values["accuracy"], axis=0)
    x, y = np.log2(texts), np.log2(shots)
    with style():
        drawing, axes = canvas(6.8, 4.4)
        # Light cells with dark writing, whatever the page around them: no ink that turns with it.
        light = colors.ListedColormap(0.55 * colormaps["cividis"](np.linspace(0, 1, 256)) + 0.45)
        mesh = axes.pcolormesh(_edges(x), _edges(y), mean, cmap=light, edgecolors="none")
        fine = np.linspace(x[0] - 0.4, x[-1] + 0.4, 80), np.linspace(y[0] - 0.4, y[-1] + 0.4, 80)
        plane = values["intercept"] + values["slope_n"] * fine[0][None] + values["slope_k"] * fine[1][:, None]
        lines = axes.contour(*fine, plane, levels=8, colors=[_DARK], linewidths=1.0)
        axes.clabel(lines, fmt="%.0f", fontsize=7.5)
        for i, k in enumerate(y):
            for j, n in enumerate(x):
                value = axes.text(
                    n, k, f"{mean[i, j]:.1f}", ha="center", va="center", fontsize=8.5, color=_DARK
                )
                value.set_bbox({"facecolor": "#f4f4f4", "edgecolor": "none", "pad": 1.5, "alpha": 0.8})
        axes.set_xticks(x, [str(n) for n in texts])
        axes.set_yticks(y, [str(k) for k in shots])
        axes.set_xlabel(f"{values['auxiliary']} samples per class")
        axes.set_ylabel(f"labelled {values['target']} samples per class")
        bar = drawing.colorbar(mesh, ax=axes)
        bar.set_label("test accuracy (%)")
        axes.set_title(
            f"{values['method']}: accuracy and isolines (n = {len(values['seeds'])} seeds)", fontsize=10
        )
        return drawing


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _sentence(reading: Reading, grid: Grid, rate: Rate) -> str:
    target, label = reading.problem.target.label, " + ".join(reading.auxiliaries)
    if rate.refusal is not None:
        return f"No rate of exchange between {target} and {label}: {rate.refusal}."
    texts = rate.times()
    assert texts is not None
    said = f"1 labelled {target} sample ≈ {_number(texts[0])} {label} samples (95 % interval {_range(texts)})"
    if grid.words is not None:
        words = rate.times(grid.words)
        assert words is not None
        said += f" ≈ {_number(words[0])} words ({_range(words)})"
    return f"{said}, per class, at k = {rate.k:.1f} and n = {rate.n:.1f}."


def _slopes(reading: Reading, grid: Grid, fit: PlaneFit) -> str:
    return (
        f"Doubling the labelled {reading.problem.target.label} samples adds "
        f"{mean_std_text(fit.by_seed[:, 0].tolist())} "
        f"points, doubling the {' + '.join(reading.auxiliaries)} samples "
        f"{mean_std_text(fit.by_seed[:, 1].tolist())} (mean ± standard deviation over {len(grid.seeds)} "
        "seeds)."
    )


def _constant(linear: PlaneFit, words: float | None) -> str:
    said = (
        "In the plane over the numbers themselves, as the paper may have read it, a target sample is worth "
    )
    rate = constant_rate(linear)
    if rate is None:
        return f"{said}no number of auxiliary samples: one of its slopes is not positive."
    in_words = "" if words is None else f" ({_number(rate * words)} words)"
    return f"{said}{_number(rate)} auxiliary samples{in_words} everywhere; no interval."


def _below(grid: Grid) -> list[str]:
    """Where the auxiliary is worth less than nothing: the rate is between its samples, not against none."""
    found = []
    for i, (k, without) in enumerate(zip(grid.shots, grid.without, strict=True)):
        means = grid.accuracy[:, i].mean(0)
        worse = [n for n, mean in zip(grid.texts, means, strict=True) if without and mean < np.mean(without)]
        found += [f"k = {k}, n = {', '.join(map(str, worse))}"] if worse else []
    if not found:
        return []
    return [
        f"Against no auxiliary at all (unimodal-deep), {grid.method} has a lower mean accuracy at "
        f"{'; '.join(found)}. The rate says what more of the auxiliary is worth to a model that has some, "
        "not what the first sample is worth."
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _range(values: Sequence[float]) -> str:
    return f"{_number(values[1])} to {_number(values[2])}"


def _tables(grid: Grid) -> list[Table]:
    rows = []
    for i, k in enumerate(grid.shots):
        cells = [mean_std_text(grid.accuracy[:, i, j].tolist(), 1) for j in range(len(grid.texts))]
        without = mean_std_text(grid.without[i], 1) if grid.without[i] else "–"
        rows.append([str(k), str(grid.label_budgets[i]), without, *cells])
    head = ["k", "labels in all", "no auxiliary", *(f"n = {n}" for n in grid.texts)]
    return [Table(caption="Test accuracy in %, mean ± standard deviation over seeds", head=head, rows=rows)]
