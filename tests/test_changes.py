"""News fragments: each is as `changes/README.md` wants it, and a release collects them all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("release", ROOT / "changes" / "release.py")
assert _SPEC is not None
assert _SPEC.loader is not None
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A.

## [0.1.0] - 2026-11-22

### Added

- The first.
"""


def test_every_fragment_is_as_it_should_be() -> None:
    found = {path.name: release.problems(path) for path in release.fragments(ROOT / "changes")}
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert set(release.KINDS) >= {name.split(".")[-2] for name in found}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("fine.added.md", "`uml train` does more.", None),
        ("fine-2.fixed.md", "Two words.\n", None),
        ("strange.new.md", "It does more.", "NAME.KIND.md"),
        ("Capital.added.md", "It does more.", "NAME.KIND.md"),
        ("small.added.md", "it does more.", "capital"),
        ("point.added.md", "- It does more.", "capital"),
        ("open.added.md", "It does more", "full stop"),
        ("long.added.md", "Word " * 81 + ".", "80 words"),
        ("two.added.md", "One.\n\nTwo.", "80 words"),
    ],
)
def test_what_is_wrong_with_a_fragment_is_said(
    name: str, text: str, problem: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    found = release.problems(path)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_a_release_has_every_fragment_below_its_kind(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a fragment")
    (tmp_path / "b.added.md").write_text("B is\nadded.\n", encoding="utf-8")
    (tmp_path / "c.fixed.md").write_text("C " + "is fixed " * 20 + "now.", encoding="utf-8")
    text = release.released(CHANGELOG, release.collected(tmp_path), "0.2.0", "2027-01-31")
    head, _, section = text.partition("\n\n## [0.2.0] - 2027-01-31\n\n")
    assert head.startswith("# Changelog\n\n## [Unreleased]\n\nFurther changes stand in `changes/`")
    assert section.startswith("### Added\n\n- A.\n- B is added.\n\n### Fixed\n\n- C is fixed")
    assert text.endswith(CHANGELOG[CHANGELOG.index("\n\n## [0.1.0]") + 1 :])
    assert max(map(len, text.splitlines())) <= release.WIDTH
    again = release.released(text, {"changed": ["- D."]}, "0.3.0", "2027-02-01")
    assert "here.\n\n## [0.3.0] - 2027-02-01\n\n### Changed\n\n- D.\n\n## [0.2.0]" in again
    assert again.count("Further changes") == 1


@pytest.mark.parametrize(
    ("changelog", "version", "said"),
    [
        (CHANGELOG, "0.1.0", "already"),
        ("# Changelog\n", "0.2.0", "no section"),
        ("# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n", "0.2.0", "nothing to release"),
    ],
)
def test_what_cannot_be_released_is_said(changelog: str, version: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        release.released(changelog, {}, version, "2027-01-31")
