"""The suite runs in two processes side by side (`-n 2` in pyproject.toml; `-n 0` for one, a debugger or `-s`)."""

import os

# One thread each, before torch is imported: two processes that take every core slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
