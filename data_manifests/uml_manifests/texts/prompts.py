"""Text manifests: sentences about classes, from templates or from a file of class descriptions.

A text manifest keeps the classes of its source in their order, so labels mean the same in both; texts have no
splits. Text j of class i has the id `i-j`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from uml_cache import InputError, parse_json, unknown
from uml_manifests.manifest.manifest import NO_SPLIT, Manifest
from uml_manifests.manifest.table import decode

TEMPLATES = ("vanilla", "classname", "handwritten")
STYLES = ("sentences", "features")
_ARTICLES = ("a", "an", "the")
_VERBS = (
    "is",
    "are",
    "has",
    "have",
    "can",
    "may",
    "often",
    "typically",
    "usually",
    "sometimes",
    "made",
    "used",
)
_VANILLA = {
    "image": "a photo of a {}.",
    "audio": "the sound of a {}.",
    "text": "a text about a {}.",
    "array": "an example of {}.",
}


def template_manifest(
    source: Manifest, templates: str | Sequence[str], *, set: str | None = None
) -> Manifest:
    """Fill every class name of a manifest into templates.

    Args:
        source: Whose classes; its prompts are the `handwritten` templates.
        templates: `vanilla` (one plain sentence), `classname` (the bare name), `handwritten`, or sentences
            with `{}` for the class name. Underscores in class names are read as spaces. The paper prints
            `vanilla` without a full stop (B.3.3).
        set: The text set's name; by default the template set's, `templates` for own sentences.

    Raises:
        InputError: unknown template set, no handwritten prompts, or a template without `{}`.
    """
    if isinstance(templates, str):
        set = set or templates
        templates = _template_set(source, templates)
    for template in templates:
        if "{}" not in template:
            raise InputError(f"template {template!r} has no {{}} for the class name")
    if not templates:
        raise InputError("no templates given")
    names = (name.replace("_", " ") for name in source.classes)
    texts = [[template.replace("{}", name) for template in templates] for name in names]
    return _text_manifest(source, texts, set or "templates", source.source)


def description_manifest(
    source: Manifest,
    descriptions: str | Path | dict[str, list[str]],
    *,
    set: str = "descriptions",
    style: str = "sentences",
) -> Manifest:
    """The texts of a description file (`{class name: [texts]}`, such as CuPL's) for a manifest's classes.

    With the style `features` the texts are features of a class (`four legs`, as in DCLIP's files) and become
    `NAME, which has four legs.`; those that begin with an article are joined by `is`, those that begin with
    a verb (`is`, `has`, `can`, `may`, `often` …) by nothing.

    Classes that the file has nothing for stay classes without samples: `missing_classes` lists them. See
    `match_descriptions` for how keys meet class names.

    Raises:
        InputError: malformed file, two keys that fit one class, or no key that fits any.
    """
    origin = None if isinstance(descriptions, dict) else f"descriptions {Path(descriptions).name}"
    if not isinstance(descriptions, dict):
        descriptions = read_descriptions(Path(descriptions))
    keys, unused = match_descriptions(source.classes, list(descriptions))
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    texts = [[text for text in descriptions[key] if text.strip()] if key else [] for key in keys]
    if style == "features":
        texts = [
            [_sentence(name.replace("_", " "), text) for text in many]
            for name, many in zip(source.classes, texts, strict=True)
        ]
    if not any(texts):
        raise InputError(
            f"no description fits a class of data set {source.name!r}; "
            f"the file describes {', '.join(unused[:3])} …, the classes are {', '.join(source.classes[:3])} …"
        )
    return _text_manifest(source, texts, set, origin)


def read_descriptions(path: Path) -> dict[str, list[str]]:
    """Read `{class name: [texts]}` from a JSON file; a single text may stand without its list.

    Raises:
        InputError: not UTF-8, not JSON, or of another form.
    """
    try:
        content = parse_json(decode(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected an object of class names with lists of texts")
    found = {key: [value] if isinstance(value, str) else value for key, value in content.items()}
    for key, value in found.items():
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise InputError(f"{path}: {key!r} must hold a list of texts")
    return found


def match_descriptions(classes: Sequence[str], keys: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """Which key describes which class: (a key or None per class, the keys that describe none).

    A key fits a class if they are equal; else if they are equal in lower case with underscores for spaces;
    else if that holds after one of the rewritings benchmarks need: a model year moved to the other end
    (Stanford Cars), `x (tag)` read as `tag x` (SUN397).

    Raises:
        InputError: two keys fit a class equally well.
    """
    by_form: list[dict[str, list[str]]] = [{}, {}, {}]
    for key in keys:
        for level, forms in enumerate(_forms(key)):
            for form in forms:
                by_form[level].setdefault(form, []).append(key)
    matched = [_best_key(name, by_form) for name in classes]
    used = {key for key in matched if key is not None}
    return matched, [key for key in keys if key not in used]


def _sentence(name: str, feature: str) -> str:
    feature = feature.strip().rstrip(".")
    first = feature.split()[0].casefold()
    link = "is " if first in _ARTICLES else "" if first in _VERBS else "has "
    return f"{name}, which {link}{feature}."


def _best_key(name: str, by_form: list[dict[str, list[str]]]) -> str | None:
    for level, forms in enumerate(_forms(name)):
        candidates = list(dict.fromkeys(key for form in forms for key in by_form[level].get(form, [])))
        if len(candidates) > 1:
            raise InputError(f"descriptions {candidates[0]!r} and {candidates[1]!r} both fit class {name!r}")
        if candidates:
            return candidates[0]
    return None


def _forms(name: str) -> Iterator[list[str]]:
    """The spellings a name may be met under: exact, normalised, rewritten."""
    yield [name]
    plain = "_".join(name.replace("_", " ").split()).lower()
    yield [plain]
    rewritten = [plain]
    if match := re.fullmatch(r"(.+)_((?:19|20)\d\d)", plain):
        rewritten.append(f"{match[2]}_{match[1]}")
    if match := re.fullmatch(r"(.+)_\((.+)\)", plain):
        rewritten.append(f"{match[2]}_{match[1]}")
    yield rewritten


def _template_set(source: Manifest, name: str) -> tuple[str, ...]:
    if name not in TEMPLATES:
        raise unknown("template set", name, TEMPLATES)
    if name == "vanilla":
        return (_VANILLA[source.modality],)
    if name == "classname":
        return ("{}",)
    if not source.prompts:
        raise InputError(
            f"data set {source.name!r} has no handwritten prompts; add `prompts` to its dataset.toml, "
            "or take vanilla or classname"
        )
    return source.prompts


def _text_manifest(source: Manifest, texts: list[list[str]], set: str, origin: str | None) -> Manifest:
    rows = [(label, number, text) for label, many in enumerate(texts) for number, text in enumerate(many)]
    return Manifest(
        name=source.name,
        modality="text",
        set=set,
        classes=source.classes,
        root=source.root,
        ids=[f"{label}-{number}" for label, number, _ in rows],
        sources=[text for *_, text in rows],
        labels=np.array([label for label, *_ in rows]),
        splits=np.full(len(rows), NO_SPLIT),
        licence=source.licence,
        source=origin,
        prompts=source.prompts,
    )
