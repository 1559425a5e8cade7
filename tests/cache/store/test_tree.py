"""Any Zarr tool walks a store without a warning (warnings are errors here)."""

from __future__ import annotations

from typing import Any

import zarr


def test_walking_a_store_meets_arrays_and_groups_only(sealed: Any) -> None:
    group = zarr.open_group(sealed.path, mode="r")
    found = {name: type(member).__name__ for name, member in group.members(max_depth=None)}
    assert found.pop("tokens") == "Group"
    assert set(found.values()) == {"Array"}
    assert group["journal"].shape == (0,)
    assert "plan" not in str(group.tree())
