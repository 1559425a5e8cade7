"""Options that all commands share which read tables. Imports click only, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from uml_cache.tables.columns import Choice

COLUMNS = ("text_column", "path_column", "label_column", "split_column", "id_column", "group_column")
_HELP = {
    "text_column": "Column of the texts, of any table (CSV, JSON lines, tar, saved data set).",
    "path_column": "Column of the files' paths, or of the pictures or sounds themselves.",
    "label_column": "Column of the labels.",
    "split_column": "Column of the splits.",
    "id_column": "Column of the ids.",
    "group_column": "Column of the groups.",
}


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--text-column` and its kind to a command."""
    for name in reversed(COLUMNS):
        command = click.option(f"--{name.replace('_', '-')}", name, help=_HELP[name])(command)
    return command


def left_out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--left-out FILE` to a command."""
    option = click.option(
        "--left-out", "left_out", type=click.Path(), help="Write what is left out, and why, to this CSV file."
    )
    return option(command)


def take_choice(options: dict[str, Any]) -> Choice:
    """Take the column options out of a command's options."""
    from uml_cache.tables.columns import Choice

    return Choice(**{name.removesuffix("_column"): options.pop(name, None) for name in COLUMNS})
