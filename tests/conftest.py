"""The suite runs in two processes (`-n 2` in pyproject.toml; `-n 0` for one, a debugger or `-s`)."""

import atexit
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# One thread each, before torch is imported: two processes that take every core slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What was checked of stores is remembered here, not in the home of whoever runs the suite.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="uml-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# The same examples in every run: a red run then means a change.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Whole files go to a process, in this order: a long file that came last would keep one process waiting.
_LONG_FILES = ("test_three_lines.py", "test_readme.py", "test_processes.py", "test_ray.py", "test_kill.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONG_FILES)
