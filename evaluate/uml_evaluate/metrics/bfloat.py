"""Products in bfloat16, where the processor makes them several times as fast as those in float32.

Products of bfloat16 numbers are added in float32, and the sum is rounded to bfloat16: 8 binary digits. What
is added to a row as further columns takes part before that rounding, in as many digits as `digits` gives it.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1.05 * 2.0**-8
"""More than |x − rounded x| / |rounded x| for every x that is rounded to bfloat16."""
SUMMING = 2.0**-14
"""More than |sum − exact sum| / (|v| |u|) for products of rows of up to 1,000 features added in float32."""
_NUMBERS = 3  # of 8 digits each: float32 has 24


def has_fast_products() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def with_addend(rows: Tensor, addend: Tensor) -> Tensor:
    """bfloat16 (n, D + 6): rows (n, D), and columns that add `addend` (n,) to products with `with_ones`,
    or take part as addend of the other side where both sides have one."""
    return torch.cat([rows.bfloat16(), _digits(addend), torch.ones(len(rows), _NUMBERS).bfloat16()], dim=1)


def with_ones(rows: Tensor, addend: Tensor | None = None) -> Tensor:
    """bfloat16 (n, D + 6), the other side of products with `with_addend`; its own addend (n,), if any."""
    ones = torch.ones(len(rows), _NUMBERS).bfloat16()
    own = torch.zeros_like(ones) if addend is None else _digits(addend)
    return torch.cat([rows.bfloat16(), ones, own], dim=1)


def _digits(values: Tensor) -> Tensor:
    """(n, 3) bfloat16 whose sum is values (n,) in float32."""
    left, found = values.float(), []
    for _ in range(_NUMBERS):
        found.append(left.bfloat16())
        left = left - found[-1].float()
    return torch.stack(found, dim=1)
