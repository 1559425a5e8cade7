"""The linear theory (paper 3.1, appendix C) on designs that are fitted to a run's heads, or given.

Shapes: n rows, P shared factors, D directions.

A head trained by squared errors would be the linear model: rows in the space that it reads are the design,
its weights the shared factors. Of that space only the part that tells the head's classes apart is kept, in
as few dimensions as the labelled rows can carry. Along the directions between the target's class means: the
variance with the target alone and with the auxiliary, and how many target rows one auxiliary row is worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError
from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.information.shared_space import SharedRows, class_pairs, shared_rows
from uml_evaluate.analyses.reading import Reading, cell_fields, finite, mean_std_text
from uml_evaluate.comparing.shown.figures import GREY, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name
from uml_evaluate.theory import (
    Design,
    adding_never_hurts,
    class_directions,
    exchange_rates,
    fitted_design,
    information_adds,
    is_fisher_orthogonal,
    one_sample_worth_more,
    shared_information,
    strict_order_as_printed,
    variance,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
TITLE = "The linear theory"
PAPER = "3.1, appendix C"
_MOST_FACTORS = 16
_ROWS_PER_FACTOR = 3


def analyse(reading: Reading) -> Finding:
    """Designs of every head that has rows enough, and what the theory says of them.

    Raises:
        NotPossible: no draw has rows enough.
    """
    records: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for one in shared_rows(reading):
        for label in one.auxiliaries:
            if (found := _fitted(one, label)) is not None:
                arrays[f"gain.{len(records)}"] = found[1]
                records.append(found[0])
    if not records:
        raise NotPossible(
            f"no draw has {_ROWS_PER_FACTOR} labelled rows for each of two factors; look at more shots (--k)"
        )
    rows = []
    said = []
    for label in dict.fromkeys(r["auxiliary"] for r in records):
        for k in reading.shots:
            mine = [r for r in records if (r["auxiliary"], r["shots"]) == (label, k)]
            if not mine:
                continue
            rates = [r["rate_median"] for r in mine]
            gains = [r["variance_ratio"] for r in mine]
            rows.append(
                [
                    label, str(k), str(mine[0]["factors"]), mean_std_text(rates, 3),
                    mean_std_text([r["rate_largest"] for r in mine if r["rate_largest"] is not None], 3),
                    mean_std_text(gains, 3),
                ]
            )  # fmt: skip
            said.append(
                f"{label} at {shots_name(k)}: with its rows the variance of the head along directions "
                f"between classes is {mean_std_text(gains)} of what the target alone gives; one row is worth "
                f"{mean_std_text(rates)} target rows there (median)."
            )
    head = ["auxiliary", "k", "factors", "rows worth, median", "largest", "variance, with / without"]
    caption = "Along directions between the target's class means; mean ± standard deviation over seeds"
    return Finding(
        analysis="theory",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=said,
        notes=[
            "The theory is about the best unbiased estimate of a linear model whose shared factors are the "
            "same in both modalities. It says how much could be known, not that a trained head knows it. "
            "That "
            "the factors are the same is an assumption here: data with permuted classes look as informative.",
            "The noise of each design is what its least-squares residuals show.",
        ],
        tables=[Table(caption=caption, head=head, rows=rows)],
        values={"cells": records},
        arrays=arrays,
        caption="Variance with the auxiliary's rows over that without, along each direction between two of "
        "the target's class means (first head of each auxiliary, sorted).",
    )


def _fitted(one: SharedRows, label: str) -> tuple[dict[str, Any], NDArray[np.float64]] | None:
    target, other = one.target, one.auxiliaries[label]
    rows = min(len(target.labels), len(other.labels))
    factors = min(len(one.head) - 1, rows // _ROWS_PER_FACTOR, _MOST_FACTORS)
    if factors < 2:
        return None
    centred = one.head - one.head.mean(0)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:factors]  # what tells the head's classes apart
    x, y = (
        fitted_design(batch.space @ basis.T, np.eye(len(one.head))[batch.labels]) for batch in (target, other)
    )
    m_x, m_y = shared_information(x), shared_information(y)
    pairs = class_pairs(target.labels, one.result.cell.seed)
    directions = class_directions(np.nan_to_num(one.means) @ basis.T, pairs)
    alone = np.array([variance(m_x, v) for v in directions])
    both = np.array([variance(m_x + m_y, v) for v in directions])
    known = np.isfinite(alone) & (alone > 0)
    gain = both[known] / alone[known]
    per_x, per_y = m_x / len(target.labels), m_y / len(other.labels)
    x_along = np.einsum("dp,pq,dq->d", directions, per_x, directions)
    y_along = np.einsum("dp,pq,dq->d", directions, per_y, directions)
    seen = x_along > 0
    largest = float(exchange_rates(per_x, per_y).rates.max(initial=0.0))
    checks = [adding_never_hurts(m_x, m_y, v) for v in directions]
    record = {
        **cell_fields(one.result), "auxiliary": label, "factors": factors, "directions": len(pairs),
        "target_rows": len(target.labels), "auxiliary_rows": len(other.labels),
        "noise_target": float(np.asarray(x.noise)), "noise_auxiliary": float(np.asarray(y.noise)),
        "rate_median": float(np.median(y_along[seen] / x_along[seen])),
        "rate_largest": finite(largest),
        "variance_ratio": float(np.median(gain)) if len(gain) else 1.0,
        "refuted": sum(check.refuted for check in checks),
    }  # fmt: skip
    return record, np.sort(gain)


def figure(finding: Finding) -> Figure:
    """Variance ratios of the first head of each auxiliary."""
    with style():
        drawn, axes = canvas(6.4, 3.2)
        seen: set[str] = set()
        for i, record in enumerate(finding.values["cells"]):
            if record["auxiliary"] not in seen:
                seen.add(record["auxiliary"])
                values = finding.arrays[f"gain.{i}"]
                label = f"{record['auxiliary']}, k = {record['shots']}"
                axes.plot(np.linspace(0, 100, len(values)), values, label=label)
        axes.axhline(1.0, color=GREY, linestyle="--", linewidth=0.9)
        axes.set_ylim(0.0, 1.05)
        axes.set_xlabel("directions between two classes, % (sorted)")
        axes.set_ylabel("variance, with / without")
        axes.legend(frameon=False, fontsize=8)
    return drawn


def read_designs(path: Path) -> tuple[Design, Design]:
    """Two designs from a NumPy archive: `x_shared` (n, P), `y_shared` (m, P), and where there are some
    `x_private`, `y_private`, `x_noise`, `y_noise` (a number, or one of each row).

    Raises:
        InputError: no such archive, arrays that are missing or do not go together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no NumPy archive (.npz) of designs: {error}") from None
    designs = []
    for name in ("x", "y"):
        if f"{name}_shared" not in arrays:
            raise InputError(f"{path} lacks {name}_shared; it has {', '.join(sorted(arrays)) or 'nothing'}")
        noise = arrays.get(f"{name}_noise", np.float64(1.0))
        try:
            designs.append(
                Design(
                    arrays[f"{name}_shared"], arrays.get(f"{name}_private"),
                    float(noise) if np.ndim(noise) == 0 else noise,
                )
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: {name}: {error}") from None
    if designs[0].shared.shape[1] != designs[1].shared.shape[1]:
        widths = [design.shared.shape[1] for design in designs]
        raise InputError(f"{path}: x_shared has {widths[0]} shared factors and y_shared {widths[1]}")
    return designs[0], designs[1]


def on_designs(x: Design, y: Design) -> tuple[dict[str, Any], str]:
    """What the theory says of two designs: as JSON, and as text."""
    m_x, m_y = shared_information(x), shared_information(y)
    samples = (len(x.shared), len(y.shared))
    rates = exchange_rates(m_x, m_y, samples=samples)
    factors = []
    for j in range(len(m_x)):
        v = np.eye(len(m_x))[j]
        factors.append({"without": finite(variance(m_x, v)), "with": finite(variance(m_x + m_y, v))})
    v = rates.directions[:, 0] if rates.directions.size else np.eye(len(m_x))[0]
    checks = {
        "information adds (Theorem 1)": information_adds(x, y),
        "no direction gets worse (Theorem 1)": adding_never_hurts(m_x, m_y, v),
        "strict order as printed (Theorem 1)": strict_order_as_printed(x, y),
        "one sample is worth more (Theorem 3)": one_sample_worth_more(m_x / samples[0], m_y / samples[1]),
    }
    value = {
        "samples": list(samples),
        "fisher_orthogonal": {"x": is_fisher_orthogonal(x), "y": is_fisher_orthogonal(y)},
        "rates": [finite(rate) for rate in rates.rates],
        "directions": rates.directions.T.tolist(),
        "variances": factors,
        "checks": {
            name: {"premise": c.premise, "holds": c.holds, "left": finite(c.left), "right": finite(c.right)}
            for name, c in checks.items()
        },
    }
    counts = f"{samples[0]} samples of X, {samples[1]} of Y, {len(m_x)} shared factors"
    lines = [f"{TITLE} (paper {PAPER}): {counts}"]
    shown = ", ".join("∞" if np.isinf(rate) else f"{rate:.3g}" for rate in rates.rates)
    lines.append(f"One sample of Y is worth so many of X, by direction: {shown or 'neither sees anything'}.")
    for j, one in enumerate(factors):
        texts = ["∞" if one[key] is None else f"{one[key]:.4g}" for key in ("without", "with")]
        lines.append(f"  factor {j}: variance {texts[0]} without Y, {texts[1]} with it")
    for name, check in checks.items():
        verdict = "holds" if check.holds else "does not hold"
        lines.append(f"  {name}: {verdict if check.premise else 'its premise is not met'}")
    return value, "\n".join(lines)
