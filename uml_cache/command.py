"""What every `uml` command shares: `--json`, `--quiet`, `--debug`, and where its words go.

Results go to standard output (text, or exactly one JSON object with `--json`); progress and remarks go to
standard error, and not at all with `--quiet`. This module imports click only, so that `--help` stays fast.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import click

from uml_cache.escapes import json_text, terminal


class Progress(Protocol):
    """A counter of work done; `tqdm` bars and the silent stand-in both are one."""

    def update(self, n: int = 1, /) -> Any: ...
    def set_postfix_str(self, s: str = "", /) -> Any: ...


class _Silent:
    def update(self, n: int = 1, /) -> None:
        return None

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


@dataclass(frozen=True)
class Output:
    """Where a command's words go. Library functions take one too; `Output(quiet=True)` is silent."""

    json: bool = False
    quiet: bool = False

    def result(self, value: Any, text: str) -> None:
        """Print the result: `value` as one JSON document with `--json`, else `text`."""
        if self.json:
            # Whatever a stream cannot write is a number in JSON, so that its reader gets the same text.
            unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
            click.echo(json_text(json.dumps(value, ensure_ascii=not unicode, allow_nan=False)))
        else:
            click.echo(terminal(text))

    def say(self, message: str) -> None:
        """A remark for the person at the terminal, on standard error."""
        if not self.quiet:
            click.echo(terminal(message), err=True)

    @contextlib.contextmanager
    def progress(self, total: int | None, unit: str, label: str = "", initial: int = 0) -> Iterator[Progress]:
        """A bar with rate and time left on standard error; silent where that is no terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield _Silent()
            return
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[type-arg]
            def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
                super().set_postfix_str(terminal(s), refresh)

        name = terminal(label)
        with Bar(total=total, unit=unit, desc=name, initial=initial, dynamic_ncols=True) as bar:
            yield bar


QUIET = Output(quiet=True)


def uml_command(
    name: str, *, example: str, short_help: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make `function(output, **options)` a command with the common options and a worked example.

    `example` is shown verbatim at the end of `--help`. The function's docstring is the help text.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(json_: bool, quiet: bool, debug: bool, **options: Any) -> Any:
            return function(Output(json=json_, quiet=quiet), **options)

        lines = inspect.cleandoc(example).splitlines()
        epilog = "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
        command = click.command(name, epilog=epilog, short_help=short_help)(run)
        command.params += [
            click.Option(
                ["--json", "json_"], is_flag=True, help="Print one JSON document on standard output."
            ),
            click.Option(["--quiet"], is_flag=True, help="No progress and no remarks on standard error."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]
        return command

    return decorate
