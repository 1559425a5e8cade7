"""What every `uml` command shares: `--json`, `--quiet`, `--debug`, and where its words go.

Results go to standard output (text, or exactly one JSON object with `--json`); progress and remarks go to
standard error, and not at all with `--quiet`. This module imports
click and the settings' declarations only, so that `--help` stays fast.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import click

from uml_cache.escapes import json_text, terminal
from uml_cache.settings import Setting, Settings, declared, read_toml


class Progress(Protocol):
    """A counter of work done; `tqdm` bars and the silent stand-in both are one."""

    def update(self, n: int = 1, /) -> Any:
        """Say that `n` more are done."""

    def set_postfix_str(self, s: str = "", /) -> Any:
        """Say what is at work now."""


class _Silent:
    def update(self, n: int = 1, /) -> None:
        return None

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


class _Lines:
    """Where standard error is no terminal: a line a minute, so that a log tells how far the work is."""

    def __init__(self, total: int | None, unit: str, label: str, initial: int) -> None:
        self._total, self._unit, self._label = total, unit.strip(), label
        self._first = self._done = initial
        self._began = self._said = time.monotonic()

    def update(self, n: int = 1, /) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said < _EVERY_SECONDS:
            return
        self._said = now
        rate = (self._done - self._first) / (now - self._began)
        said = f"{self._label}: {self._done:,}"
        if self._total is not None:
            said += f" of {self._total:,}"
        said += f" {self._unit}, {rate:,.2f}/s"
        if self._total is not None and rate > 0:
            said += f", about {(self._total - self._done) / rate / 60:,.0f} min left"
        click.echo(said, err=True)

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


_EVERY_SECONDS = 60.0


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
        """A bar with rate and time left on standard error; where that is no terminal a line a minute."""
        if self.quiet:
            yield _Silent()
            return
        if not sys.stderr.isatty():
            yield _Lines(total, unit, terminal(label), initial)
            return
        from tqdm import tqdm

        name = terminal(label)
        # All that stands in a line beside the postfix, with a bar of ten signs.
        taken = len(f"{name}: 100%|          | {total}/{total} [00:00:00<00:00:00, 999.99{unit}/s, ]")

        class Bar(tqdm):  # type: ignore[type-arg]
            def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
                room = shutil.get_terminal_size().columns - taken
                text = terminal(s)
                text = text if len(text) <= room else f"{text[: max(0, room - 1)]}…" if room > 8 else ""
                super().set_postfix_str(text, refresh)

        with Bar(total=total, unit=unit, desc=name, initial=initial, dynamic_ncols=True) as bar:
            yield bar


QUIET = Output(quiet=True)


class _Option(click.Option):
    """An option that `--help` shows under a heading of its own."""

    def __init__(self, names: Sequence[str], group: str, **attributes: Any) -> None:
        super().__init__(names, **attributes)
        self.group = group


class _Command(click.Command):
    """A command whose `--help` shows its options under their headings. Nothing that is typed is dropped."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an option that is given twice and takes one value: click would keep the last in silence."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            for parameter in dict.fromkeys(order):
                one = isinstance(parameter, click.Option) and not (
                    parameter.multiple or parameter.is_flag or parameter.count or parameter.is_eager
                )
                if one and order.count(parameter) > 1:
                    raise click.UsageError(
                        f"{parameter.opts[0]} is given {order.count(parameter)} times and takes one value: "
                        "run the command once for each",
                        ctx,
                    )
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"": []}
        for parameter in self.get_params(ctx):
            group = getattr(parameter, "group", _EVERY if "--help" in parameter.opts else "")
            if record := parameter.get_help_record(ctx):
                groups.setdefault(group, []).append(record)
        groups[_EVERY] = groups.pop(_EVERY, [])  # last
        for heading, records in groups.items():
            if records:
                with formatter.section(heading or "Options"):
                    formatter.write_dl(records)


_EVERY = "Every command"


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
        command = click.command(name, cls=_Command, epilog=epilog, short_help=short_help)(run)
        command.params += [
            _Option(
                ["--json", "json_"], _EVERY, is_flag=True, help="Print one JSON document on standard output."
            ),
            _Option(
                ["--quiet"], _EVERY, is_flag=True, help="Print no progress and no remarks on standard error."
            ),
            _Option(["--debug"], _EVERY, is_flag=True, help="Show the traceback of an error."),
        ]
        return command

    return decorate


def settings_options(
    way: str, *kinds: type[Settings], **changes: Mapping[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of settings, and `--config FILE.toml`, to `function(output, values, **options)`.

    `values` are those that the command line and, where it says nothing, the file give, by setting. Options
    that mean nothing to the command `way` are taken and not shown.

    Args:
        changes: what this command declares otherwise, by setting.
    """
    known = {
        name: replace(setting, **changes.get(name, {}))
        for kind in kinds
        for name, setting in declared(kind).items()
    }

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(output: Output, config: str | None, **options: Any) -> Any:
            from uml_cache.files.documents import is_as_written

            given = {name: options.pop(name) for name in known}
            values = {} if config is None else read_toml(config, known)
            if config is not None and not is_as_written(config):
                output.say(f"{config} was edited or damaged after it was written")
            for name, value in given.items():
                if value is not None and value != ():
                    words = "none" if value == ("none",) else value
                    values[name] = known[name].read(words, known[name].option)
            return function(output, values, **options)

        command: Callable[..., Any] = functools.wraps(function)(run)
        command = click.option("--config", type=click.Path(), metavar="FILE.toml", help=_CONFIG)(command)
        for setting in reversed(known.values()):
            command = setting_option(setting, hidden=not setting.suits(way))(command)
        return command

    return decorate


_CONFIG = "Read settings from this file. Options on the command line win."


def setting_option(setting: Setting, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option of a setting; it arrives as typed, as None where it is not given, for `Setting.read`."""
    switch = setting.kind is bool
    words = setting.help
    if setting.default not in (None, (), "") and not switch:
        words += f"  [default: {setting.words(setting.default)[-1]}]"
    if setting.choices:
        attributes["shell_complete"] = lambda _, __, begun: [
            c for c in setting.choices if c.startswith(begun)
        ]
    return click.option(
        setting.option, setting.name, cls=_Option, group=setting.group, help=words, default=None,
        is_flag=switch, multiple=setting.many, metavar=setting.metavar or "|".join(setting.choices) or None,
        **attributes,
    )  # fmt: skip
