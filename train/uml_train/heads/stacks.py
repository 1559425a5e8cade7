"""Which models of a bank train together: those of one shape, as many as fit.

Shapes: P parameters of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uml_train.data.batches import BatchPlan
from uml_train.heads.models import HeadModel
from uml_train.protocols.grid import Schedule

_VECTORS = 6  # of P numbers a model has: parameters, gradient, two moments, the best so far, and a spare


def stacks(models: Sequence[HeadModel], schedules: Sequence[Schedule], memory: int) -> list[list[int]]:
    """Indices of the models of each stack: one shape, batch plan and schedule, at most `memory` bytes."""
    groups: dict[Any, list[int]] = {}
    for i, (model, schedule) in enumerate(zip(models, schedules, strict=True)):
        shapes = tuple((s.dim, s.projected) for s in model.streams)
        plan = BatchPlan.of(model)
        scale = model.candidate.learnable_scale
        key = (shapes, plan, model.classes, model.width, model.hidden, scale, schedule)
        groups.setdefault(key, []).append(i)
    found = []
    for members in groups.values():
        # Those with the same validation rows lie together, so that they are validated in one product.
        members.sort(key=lambda i: id(models[i].validation[0]))
        size = max(1, memory // bytes_of(models[members[0]]))
        found += [members[at : at + size] for at in range(0, len(members), size)]
    return found


def bytes_of(model: HeadModel) -> int:
    """What one model takes in a stack, without its data: parameter-sized vectors and one step's rows."""
    rows = sum(BatchPlan.of(model).rows)
    dims = sum(s.dim for s in model.streams)
    if model.layers:  # what the backward pass of every token needs
        rows *= max(round(float(s.rows.sizes.mean())) for s in model.streams)
    inner = max(1, model.layers) * (4 * model.width + 3 * model.hidden)
    step = rows * (dims + inner + 4 * model.classes)
    return 4 * (_VECTORS * model.parameters + step)
