"""`--help` of every command: nothing heavy is imported, and it ends with a worked example."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest

HEAVY = ("torch", "numpy", "zarr", "transformers", "timm", "sklearn", "matplotlib", "PIL", "h5py")
PACKAGES = ("uml_cache", "uml_cache.reading", "uml_manifests", "uml_extract", "uml_train", "uml_evaluate")


def _commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for entry in entry_points(group="uml.commands"):
        command = entry.load()
        found.append((entry.name,))
        if isinstance(command, click.Group):
            found += [(entry.name, name) for name in command.commands]
    return sorted(found)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from uml_cache.cli import main\n"
        f"for words in {_commands()!r}:\n"
        "    try:\n"
        "        main([*words, '--help'])\n"
        "    except SystemExit as leaving:\n"
        "        assert not leaving.code, words\n"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_help_ends_with_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from uml_cache.cli import main

    with pytest.raises(SystemExit):
        main([*words, "--help"])
    text = capsys.readouterr().out
    example = text.rpartition("Example:")[2].strip()
    assert " ".join(["uml", *words]) in example


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert getattr(module, name) is getattr(module, name), "a submodule hides the name"
    with pytest.raises(AttributeError):
        _ = module.no_such_name


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_option_says_what_it_is_for_in_short_sentences(words: tuple[str, ...]) -> None:
    from uml_cache.cli import root

    command: click.Command = root
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    texts = {"the command": command.help or ""}
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help[0].isupper(), (option.name, option.help)
            assert option.help.rstrip("]").endswith(".") or "[default" in option.help, option.help
            texts[option.opts[0]] = option.help
    for name, text in texts.items():
        for sentence in re.split(r"[.;:?](?:\s|$)", text):
            assert len(sentence.split()) <= 25, (name, sentence)
