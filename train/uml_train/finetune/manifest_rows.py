"""A manifest in place of a feature store: the rows of a modality whose features training has yet to make.

Shapes: N rows of the manifest, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_cache import StoreInfo
from uml_extract import Trainable

if TYPE_CHECKING:
    from uml_manifests import Manifest


class ManifestRows:
    """A manifest as `open_problem` knows feature stores, its features still to be made.

    `pooled` (N, D) float32 are zeros that take no memory, in place of features that training has yet to
    make. With `real` it is what the network makes of the samples before it is trained: what a class's texts
    mean at the start. It is computed when it is first asked for. `joint` says whether the network starts in
    the space that its weights share with another's. `variant` is what tables say of how it is trained,
    `content` a digest of all samples.
    """

    def __init__(
        self,
        manifest: Manifest,
        encoder: Trainable,
        unreadable: Iterable[int],
        features: Callable[[], torch.Tensor],
        *,
        content: str,
        real: bool = False,
        joint: bool = True,
        variant: str | None = None,
    ) -> None:
        self.manifest = manifest
        self.variant = variant
        self.encoder: dict[str, Any] = encoder.spec.to_json()
        if not joint:
            self.encoder["joint_space"] = None
        self.encoder_name = encoder.spec.name
        self.dim = int(encoder.spec.width or 0)
        self.path = manifest.root
        self.dataset, self.modality, self.set = manifest.name, manifest.modality, manifest.set
        self.fingerprint = content
        self.classes = manifest.classes
        self.label, self.split = manifest.labels, manifest.splits
        self.id, self.groups = manifest.ids, manifest.groups
        self.samples, self.id_kind = manifest.sample_keys, manifest.id_kind
        self.valid = np.ones(len(manifest), dtype=bool)
        self.valid[list(unreadable)] = False
        self.status = (~self.valid).astype(np.uint8)
        self._features, self._real = features, real

    def __len__(self) -> int:
        return len(self.id)

    @property
    def access(self) -> str:
        """As of a store that takes no memory."""
        return "mapped"

    @cached_property
    def pooled(self) -> torch.Tensor:
        """(N, D) features of the untrained network where they count, else zeros that take no memory."""
        return self._features() if self._real else torch.zeros(1, self.dim).expand(len(self), -1)

    def pooled_of(self, rows: np.ndarray) -> torch.Tensor:
        """(N, D) float32, as of a store: all rows, whichever are asked for."""
        return self.pooled

    @property
    def info(self) -> StoreInfo:
        """What a run records of it, in the shape of a store's."""
        return StoreInfo(
            path=self.path,
            dataset=self.dataset,
            modality=self.modality,
            set=self.set,
            encoder=self.encoder,
            variant=self.variant,
            classes=self.classes,
            stamp=self.fingerprint,
            rows=len(self),
            dim=self.dim,
            token_dim=None,
            tasks=0,
            done=0,
            own=False,
            arrays={},
        )
