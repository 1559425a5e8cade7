"""What the data is: manifests, known benchmarks, prompts, few-shot draws and the demo's rendered shapes.

Names are imported when they are first used, so that `uml --help` does not pay for numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_manifests.benchmarks.building import Built, build_benchmark
    from uml_manifests.benchmarks.known import Benchmark, get_benchmark, list_benchmarks
    from uml_manifests.manifest.draws import FewShotDraw, few_shot, read_index, stratified_split, write_index
    from uml_manifests.manifest.files import load_manifest, write_manifest
    from uml_manifests.manifest.manifest import MODALITIES, NO_SPLIT, SPLITS, Manifest
    from uml_manifests.resolve import resolve_data, shapes_data
    from uml_manifests.shapes.render import render_shapes
    from uml_manifests.sources.builders import from_coop, from_csv, from_folder, from_lines
    from uml_manifests.sources.pickles import read_pickle
    from uml_manifests.texts.mentions import Mentions, assign_mentions
    from uml_manifests.texts.prompts import (
        TEMPLATES,
        description_manifest,
        match_descriptions,
        read_descriptions,
        template_manifest,
    )

_HOME = {
    "MODALITIES": "manifest.manifest",
    "NO_SPLIT": "manifest.manifest",
    "SPLITS": "manifest.manifest",
    "TEMPLATES": "texts.prompts",
    "Benchmark": "benchmarks.known",
    "FewShotDraw": "manifest.draws",
    "Manifest": "manifest.manifest",
    "Mentions": "texts.mentions",
    "Built": "benchmarks.building",
    "assign_mentions": "texts.mentions",
    "build_benchmark": "benchmarks.building",
    "read_pickle": "sources.pickles",
    "description_manifest": "texts.prompts",
    "few_shot": "manifest.draws",
    "from_coop": "sources.builders",
    "from_csv": "sources.builders",
    "from_folder": "sources.builders",
    "from_lines": "sources.builders",
    "get_benchmark": "benchmarks.known",
    "list_benchmarks": "benchmarks.known",
    "load_manifest": "manifest.files",
    "match_descriptions": "texts.prompts",
    "read_descriptions": "texts.prompts",
    "read_index": "manifest.draws",
    "render_shapes": "shapes.render",
    "resolve_data": "resolve",
    "shapes_data": "resolve",
    "stratified_split": "manifest.draws",
    "template_manifest": "texts.prompts",
    "write_index": "manifest.draws",
    "write_manifest": "manifest.files",
}

__all__ = [
    "MODALITIES",
    "NO_SPLIT",
    "SPLITS",
    "TEMPLATES",
    "Benchmark",
    "Built",
    "FewShotDraw",
    "Manifest",
    "Mentions",
    "assign_mentions",
    "build_benchmark",
    "description_manifest",
    "few_shot",
    "from_coop",
    "from_csv",
    "from_folder",
    "from_lines",
    "get_benchmark",
    "list_benchmarks",
    "load_manifest",
    "match_descriptions",
    "read_descriptions",
    "read_index",
    "read_pickle",
    "render_shapes",
    "resolve_data",
    "shapes_data",
    "stratified_split",
    "template_manifest",
    "write_index",
    "write_manifest",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
