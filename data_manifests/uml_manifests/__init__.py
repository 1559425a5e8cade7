"""What the data is: manifests, known benchmarks, prompts, few-shot draws and the demo's rendered shapes.

Names are imported when they are first used, so that `uml --help` does not pay for numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_manifests.builders import from_coop, from_csv, from_lines
    from uml_manifests.building import Built, build_benchmark
    from uml_manifests.draws import FewShotDraw, few_shot, read_index, stratified_split, write_index
    from uml_manifests.files import load_manifest, write_manifest
    from uml_manifests.folders import from_folder
    from uml_manifests.known import Benchmark, get_benchmark, list_benchmarks
    from uml_manifests.manifest import MODALITIES, NO_SPLIT, SPLITS, Manifest
    from uml_manifests.mentions import Mentions, assign_mentions
    from uml_manifests.pickles import read_pickle
    from uml_manifests.prompts import (
        TEMPLATES,
        description_manifest,
        match_descriptions,
        read_descriptions,
        template_manifest,
    )
    from uml_manifests.resolve import resolve_data, shapes_data
    from uml_manifests.shapes.render import render_shapes

_HOME = {
    "MODALITIES": "manifest",
    "NO_SPLIT": "manifest",
    "SPLITS": "manifest",
    "TEMPLATES": "prompts",
    "Benchmark": "known",
    "FewShotDraw": "draws",
    "Manifest": "manifest",
    "Mentions": "mentions",
    "Built": "building",
    "assign_mentions": "mentions",
    "build_benchmark": "building",
    "read_pickle": "pickles",
    "description_manifest": "prompts",
    "few_shot": "draws",
    "from_coop": "builders",
    "from_csv": "builders",
    "from_folder": "folders",
    "from_lines": "builders",
    "get_benchmark": "known",
    "list_benchmarks": "known",
    "load_manifest": "files",
    "match_descriptions": "prompts",
    "read_descriptions": "prompts",
    "read_index": "draws",
    "render_shapes": "shapes.render",
    "resolve_data": "resolve",
    "shapes_data": "resolve",
    "stratified_split": "draws",
    "template_manifest": "prompts",
    "write_index": "draws",
    "write_manifest": "files",
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
