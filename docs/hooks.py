"""Tables of the reference that are made from declarations: `<!-- table: NAME -->` in a page becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_PLACE = re.compile(r"<!-- table: ([\w-]+) -->")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _settings(declared: Mapping[str, Any]) -> str:
    rows = []
    for name, setting in declared.items():
        nothing = setting.default in (None, (), {})
        default = "" if nothing else f"`{setting.words(setting.default)[-1]}`"
        rows.append([f"`{name}`", f"`{setting.option}`", setting.help, default])
    return _table(("Key", "Option", "Meaning", "Default"), rows)


def _train() -> str:
    from uml_cache import declared
    from uml_train import TrainSettings

    return _settings(declared(TrainSettings))


def _finetune() -> str:
    from uml_cache import declared
    from uml_train import FinetuneSettings

    return _settings(declared(FinetuneSettings))


def _recipe() -> str:
    from uml_cache import declared
    from uml_evaluate.reproduce.recipe.recipe import Recipe, Setting

    keys = {**declared(Recipe), **declared(Setting)}
    return _table(("Key", "Meaning"), [[f"`{name}`", setting.help] for name, setting in keys.items()])


def _encoders() -> str:
    from uml_extract import list_encoders

    rows = []
    for name, entry in list_encoders().items():
        spec, shown = entry.spec, f"{name}ID" if name.endswith(":") else name
        widths = [str(width or "") for width in (spec.width, spec.token_width)]
        rows.append([f"`{shown}`", spec.modality, *widths, spec.licence or "", entry.summary])
    return _table(("Name", "Modality", "Width", "Token width", "Licence", "What it is"), rows)


def _protocols() -> str:
    from uml_train import PROTOCOLS, protocol_rows

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(map(text, value)) or "none"
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    rows = []
    for row in protocol_rows():
        values = [text(row.value(protocol)) for protocol in PROTOCOLS]
        if row.setting == "methods":
            values[0] = "all"
        rows.append([row.scope, f"`{row.setting}`", *values, row.source])
    return _table(("Scope", "Setting", *PROTOCOLS, "Where it comes from"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "train-settings": _train,
    "finetune-settings": _finetune,
    "recipe-keys": _recipe,
    "encoders": _encoders,
    "protocols": _protocols,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables in place; mkdocs calls this for every page."""
    return _PLACE.sub(lambda match: TABLES[match[1]](), markdown)
