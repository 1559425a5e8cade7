"""The `uml` command: finds its subcommands by entry point and turns every error into one line.

Exit status: 0 done, 1 the work failed, 2 the input is wrong, 130 interrupted, 143 ended by SIGTERM (what was
committed stays, the same command goes on from there).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points, version
from io import TextIOWrapper
from types import FrameType
from typing import Any

import click

from uml_cache.errors import InputError, Remark, WorkError, unknown
from uml_cache.escapes import ERRORS, terminal

_EPILOG = """\b
Example:
  uml demo
  uml extract --encoder dinov2_vits14
  uml train --cache ./feats
  uml eval --probe fewshot --k 4
"""


_MORE = "close other programs, raise the limit (`ulimit -v`), or take smaller batches or fewer workers"
# Libraries say it in words of their own: Python's threads, the loader of shared libraries, torch.
_MEMORY_WORDS = (
    "can't start new thread",
    "failed to map segment",
    "Cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
)

# click 8.2 on; before, click printed the help itself and left
_NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Commands(click.Group):
    """Subcommands from the entry-point group `uml.commands`, each imported when it is asked for."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group="uml.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._entries())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = self._entries().get(name)
        return None if entry is None else entry.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._entries():
            raise unknown("command", args[0], self._entries())
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, epilog=_EPILOG)
@click.version_option(version("uml-cache"), prog_name="uml")
def root() -> None:
    """Better models of one modality from unpaired data of others.

    extract caches what frozen encoders say of images, texts and sounds; train fits heads that share weights
    between modalities, with no pairs; eval shows what the unpaired data added, against the same network
    without it.
    """


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit; an error becomes one line `error: …` on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.showwarning = _showing(warnings.showwarning, quiet="--quiet" in arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a console may lack the signs of a table or a name
            stream.reconfigure(errors=ERRORS)
    debug = "--debug" in arguments
    try:
        with _terminating():
            code = root.main(arguments, prog_name="uml", standalone_mode=False)
    except (click.exceptions.Exit, SystemExit) as leaving:
        code = getattr(leaving, "exit_code", None) or getattr(leaving, "code", 0)
    except _Terminated:
        _fail("ended by SIGTERM; run the same command again to continue", 143, debug)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; run the same command again to continue", 130, debug)
    except _NO_COMMAND as help_instead:
        click.echo(help_instead.format_message(), err=True)
        code = 2
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        _fail(error.format_message() + hint, 2, debug)
    except click.ClickException as error:
        _fail(error.format_message(), 2, debug)
    except InputError as error:
        _fail(str(error), error.exit_code, debug)
    except WorkError as error:
        _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        _fail(_of_system(error), 1, debug)
    except Exception as error:
        if _short_of_memory(error):
            _fail(f"not enough memory ({_one_line(str(error)) or type(error).__name__}): {_MORE}", 1, debug)
        _fail(
            f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1, debug
        )
    sys.exit(code if isinstance(code, int) else 0)


def _of_system(error: OSError) -> str:
    """What the operating system refused, and what can be done about it."""
    where = f": {error.filename}" if error.filename else ""
    said = f"{error.strerror or error}{where}"
    if error.errno == errno.EROFS:
        return f"{said}; name a place that can be written to (--out, --runs), or work on a copy"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{said}; allow more open files (`ulimit -n 256`)"
    return f"{said}; {_MORE}" if error.errno == errno.ENOMEM else said


def _short_of_memory(error: Exception) -> bool:
    """Whether memory is short, however a library says so."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY_WORDS)


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received; whatever answers Ctrl-C answers it, too."""


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM ends the command in order: processes and shared memory are given back. A second one kills."""

    def answer(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    hears = threading.current_thread() is threading.main_thread()
    if not hears or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, answer)
    try:
        yield
    except click.Abort as error:  # what click makes of a KeyboardInterrupt
        if isinstance(error.__cause__ or error.__context__, _Terminated):
            raise _Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _showing(usual: Callable[..., None], *, quiet: bool) -> Callable[..., None]:
    """Shows a `Remark` as the line that it is, any other warning as usual."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, Remark):
            usual(message, category, *place, **more)
        elif not quiet:
            click.echo(terminal(_one_line(str(message))), err=True)

    return show


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {terminal(_one_line(message))}", err=True)
    sys.exit(code)
