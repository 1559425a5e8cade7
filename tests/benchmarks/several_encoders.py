"""Race: several encoders in one pass against one pass for each.

    OMP_NUM_THREADS=1 python tests/benchmarks/several_encoders.py --samples 600

Renders `--samples` JPEGs of 500×375 pixels and counts processor time, of this process and of its readers:

- `together`: `extract_together`; `decoding`: reading and decoding each file once, as that pass does.
- `apart`: `extract` for each encoder; `reading …`: reading and decoding each file as that encoder does.
- `own`: apart without the reading, the encoders' own time.

Needed: together − decoding ≤ 1.05 × own. The rounds take turns; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from extract_throughput import pictures

from uml_extract import extract, extract_together, load_encoder, read_for
from uml_extract.readers.rows import read_jointly

NEEDED = 1.05
ENCODERS = "hog-color,pixels"


def spent(do: Callable[[], Any]) -> float:
    """Processor seconds of this process and of the children that ended meanwhile."""

    def now() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = now()
    do()
    return now() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoders", default=ENCODERS, help="names with commas")
    parser.add_argument("--decode-workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "pictures").mkdir()
        manifest = pictures(scratch / "pictures", options.samples)
        encoders = [load_encoder(each) for each in options.encoders.split(",")]
        how: dict[str, Any] = {"decode_workers": options.decode_workers}
        found: dict[str, list[float]] = {"decoding": [], "together": [], "apart": []}
        for at in range(options.rounds):

            def decode() -> None:
                for row in range(len(manifest)):
                    read_jointly(encoders, manifest, row)

            def alone(at: int = at) -> None:
                for encoder in encoders:
                    extract(manifest, encoder, out=scratch / f"apart{at}", **how)

            found["decoding"].append(spent(decode))
            found["together"].append(
                spent(
                    lambda at=at: extract_together(manifest, encoders, out=scratch / f"together{at}", **how)
                )
            )
            found["apart"].append(spent(alone))
            for encoder in encoders:

                def read(encoder: Any = encoder) -> None:
                    for row in range(len(manifest)):
                        read_for(encoder, manifest, row)

                found.setdefault(f"reading {encoder.spec.name}", []).append(spent(read))
        medians = {key: statistics.median(values) for key, values in found.items()}
        own = medians["apart"] - sum(value for key, value in medians.items() if key.startswith("reading "))
        ratio = (medians["together"] - medians["decoding"]) / own
    result = {
        **{key: round(value, 3) for key, value in medians.items()},
        "own": round(own, 3),
        "ratio": round(ratio, 3),
        "together/apart": round(medians["together"] / medians["apart"], 3),
        "needed": NEEDED,
        "load": round(os.getloadavg()[0], 1),
        "samples": options.samples,
    }
    print(
        json.dumps(result)
        if options.json
        else "\n".join(f"{key:<20}{value:>10}" for key, value in result.items())
    )


if __name__ == "__main__":
    main()
