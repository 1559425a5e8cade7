"""How fast the probe `knn` finds neighbours, beside FAISS's flat index: `pip install faiss-cpu`.

    OMP_NUM_THREADS=1 python tests/benchmarks/neighbours.py --rows 200000 --queries 4096 --rounds 3

Rows of 384 features, 20 neighbours, one thread a side, taking turns. The features are drawn around class
means with a common part, as those of encoders are. Prints processor seconds, and how many neighbours differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from uml_evaluate.probes.nearest import Keys

WIDTH, NEIGHBOURS, CLASSES = 384, 20, 1_000


def features(rows: int, seed: int) -> torch.Tensor:
    """(rows, WIDTH) float32."""
    generator = np.random.default_rng(seed)
    means = np.random.default_rng(0).standard_normal((CLASSES, WIDTH), dtype=np.float32)
    noise = generator.standard_normal((rows, WIDTH), dtype=np.float32)
    return torch.from_numpy(1 + 0.5 * means[generator.integers(0, CLASSES, rows)] + noise)


def main() -> None:
    """Race both sides and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=4_096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows, queries = features(given.rows, 1), features(given.queries, 2)
    keys = Keys.of(rows)
    sides = {
        "fast": lambda: keys.nearest(queries, NEIGHBOURS)[1].numpy(),
        "float32": lambda: keys.nearest(queries, NEIGHBOURS, fast=False)[1].numpy(),
    }
    try:
        import faiss
    except ImportError:
        print("FAISS is not installed: no rival")
    else:
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(WIDTH)
        index.add(torch.nn.functional.normalize(rows, dim=1).numpy())
        unit = torch.nn.functional.normalize(queries, dim=1).numpy()
        sides["faiss"] = lambda: index.search(unit, NEIGHBOURS)[1]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found = {}
    for _ in range(given.rounds):
        for name, side in sides.items():
            began = time.process_time()
            found[name] = side()
            seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = np.sort(found["fast"])
    result = {
        "cpu_seconds": medians,
        "ratio": {name: value / medians["fast"] for name, value in medians.items()},
        "rows_that_differ": {name: int((np.sort(f) != ours).any(1).sum()) for name, f in found.items()},
    }
    if given.json:
        print(json.dumps(result))
        return
    for name, value in medians.items():
        apart = result["rows_that_differ"][name]
        print(f"{name:8} {value:8.2f} s  {result['ratio'][name]:.2f} of ours  "
              f"{apart} of {given.queries} queries have other neighbours")  # fmt: skip


if __name__ == "__main__":
    main()
