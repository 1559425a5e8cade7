"""A Hugging Face hub cache with random weights in it, laid out as a download would leave it."""

from __future__ import annotations

import json
from pathlib import Path

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_timm_model(home: Path, repository: str, architecture: str, **arguments: object) -> Path:
    """Random weights of a timm architecture as `repository` in the hub cache under `home` (an HF_HOME)."""
    import timm
    from safetensors.torch import save_file

    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / _COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(_COMMIT)
    model = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": {}}
    (snapshot / "config.json").write_text(json.dumps(config))
    return snapshot
