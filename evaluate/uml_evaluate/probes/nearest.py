"""The nearest rows by cosine, exactly, and fast where the processor multiplies bfloat16.

Shapes: n rows, q queries, D features, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uml_evaluate.metrics.bfloat import ROUNDING, SUMMING, has_fast_products, with_addend, with_ones

_BLOCK = 512
_WORTH_IT = 20_000  # rows; with fewer the plain products take no time
_SPARE = 64  # candidates beside twice those that are wanted


@dataclass(frozen=True, eq=False)
class Keys:
    """Unit rows u as float32 deviations `rows` (n, D) from their mean (D,), and `along` (n,): deviation ·
    mean.

    Where all rows share a large part, cosines differ by less than float32 has digits. For one query v the
    order of v · u is that of (v − mean) · (u − mean) + mean · (u − mean), whose terms are small.
    """

    rows: Tensor
    along: Tensor
    mean: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Keys:
        """Of features (n, D)."""
        unit = torch.nn.functional.normalize(features.double(), dim=1)
        mean = unit.mean(0)
        rows = unit - mean
        return cls(rows.float(), (rows @ mean).float(), mean)

    def relative(self, queries: Tensor) -> Tensor:
        """Cosines (q, n) of queries (q, D) with the rows, but for a constant of each query."""
        return self._deviations(queries) @ self.rows.T + self.along

    def nearest(self, queries: Tensor, k: int, *, fast: bool | None = None) -> tuple[Tensor, Tensor]:
        """The k ≤ n largest of `relative`, (q, k) float32, from the largest down, and their rows (q, k).

        `fast` looks for candidates by products in bfloat16, and takes their cosines in float32; None: where
        there are many rows and the processor is made for it. A query keeps its candidates only if no other
        row can be among the k: |v·u − v̂·û| ≤ |v − v̂| |û| + |v| |u − û| for the rounded v̂ and û, and what
        rounding the product adds. Every other query is compared with all rows.
        """
        near = self._deviations(queries)
        wanted = min(2 * k + _SPARE, len(self.rows))
        if fast is None:
            fast = len(self.rows) >= _WORTH_IT and has_fast_products()
        if not fast or wanted == len(self.rows):
            found = [(block @ self.rows.T + self.along).topk(k, dim=1) for block in near.split(_BLOCK)]
            return torch.cat([values for values, _ in found]), torch.cat([index for _, index in found])
        columns = with_addend(self.rows, self.along)
        rounded = columns[:, : self.rows.shape[1]].float()
        longest = rounded.norm(dim=1).max()
        apart = (self.rows - rounded).norm(dim=1).max()
        summing = SUMMING * max(1.0, columns.shape[1] / 1_000)
        products = torch.empty(_BLOCK, len(self.rows), dtype=torch.bfloat16)
        values = torch.empty(len(near), k)
        rows = torch.empty(len(near), k, dtype=torch.int64)
        for start in range(0, len(near), _BLOCK):
            block = near[start : start + _BLOCK]
            some = torch.mm(with_ones(block), columns.T, out=products[: len(block)])
            scores, candidates = some.topk(wanted, dim=1)
            exact = torch.einsum("qd,qcd->qc", block, self.rows[candidates]) + self.along[candidates]
            best, order = exact.topk(k, dim=1)
            # Of a row that is no candidate: its rounded product is at most the last candidate's.
            off = (block - block.bfloat16().float()).norm(dim=1) * longest
            off += block.norm(dim=1) * (apart + summing * longest)
            last = scores[:, -1].float()
            sure = best[:, -1] > last + ROUNDING * last.abs() + off
            index = candidates.gather(1, order)
            if not bool(sure.all()):
                again = block[~sure] @ self.rows.T + self.along
                best[~sure], index[~sure] = again.topk(k, dim=1)
            values[start : start + len(block)], rows[start : start + len(block)] = best, index
        return values, rows

    def _deviations(self, queries: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(queries.double(), dim=1) - self.mean).float()
