"""Settings are declared once, and everything else is made from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml_cache.errors import InputError
from uml_cache.settings import Setting, read_toml, toml_text

NUMBERS = Setting("", kind=tuple[int, ...], name="numbers", takes="numbers")
MIXED = Setting("", kind=tuple[int | Literal["all"], ...], name="mixed")
GROUPS = Setting("", kind=tuple[tuple[str, ...], ...] | None, name="groups", option="--group")
VALUES = Setting("", kind=tuple[float, ...] | None, name="values", option="--values")
RATE = Setting("", kind=float, name="rate", takes="a rate above 0", check=lambda rate: rate > 0)
KIND = Setting("", name="kind", choices=("l2", "none", "unrelated:"))
FLAG = Setting("", kind=bool, name="flag", option="--flag/--no-flag")
FILE = Setting("", kind=Path | None, name="file")
KNOWN = {s.name: s for s in (NUMBERS, MIXED, GROUPS, VALUES, RATE, KIND, FLAG, FILE)}


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        (NUMBERS, "1-3,2, 7", (1, 2, 3, 7)),
        (NUMBERS, [3, 1], (3, 1)),
        (NUMBERS, 4, (4,)),
        (MIXED, "4,all", (4, "all")),
        (GROUPS, "text,text+audio", (("text",), ("text", "audio"))),
        (GROUPS, ["text+audio"], (("text", "audio"),)),
        (GROUPS, [["a,b+c"]], (("a,b+c",),)),
        (GROUPS, "none", ()),
        (GROUPS, None, None),
        (VALUES, "0.5,1", (0.5, 1.0)),
        (VALUES, 2, (2.0,)),
        (KIND, "unrelated:birds", "unrelated:birds"),
        (FLAG, True, True),
        (FILE, "a/b", Path("a/b")),
    ],
)
def test_values_are_read(setting: Setting, value: Any, found: Any) -> None:
    read = setting.read(value, "here")
    assert read == found
    assert setting.read(read, "again") == found


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        (NUMBERS, "3-1", "here is '3-1'; it takes numbers"),
        (NUMBERS, "1,5-1000000000", "here: 5-1000000000 stands for 999,999,996 numbers, 10,000 at most"),
        (MIXED, "1-1000000000", "here: 1-1000000000 stands for 1,000,000,000 numbers, 10,000 at most"),
        (NUMBERS, [1.5], "here is 1.5; it takes numbers"),
        (NUMBERS, [True], "here is True"),
        (MIXED, "some", "here is 'some'"),
        (RATE, "fast", "a rate above 0"),
        (RATE, 10**400, "a rate above 0"),
        (RATE, float("nan"), "a rate above 0"),
        (RATE, True, "here is True"),
        (KIND, "l3", "unknown here 'l3': it takes l2, none or unrelated:; did you mean l2?"),
        (KIND, "unrelated:", "unknown here 'unrelated:'"),
        (FLAG, "yes", "it takes true or false"),
        (FILE, 3, "it takes a path"),
    ],
)
def test_wrong_values_are_said_with_what_is_allowed(setting: Setting, value: Any, says: str) -> None:
    with pytest.raises(InputError) as raised:
        setting.read(value, "here")
    assert says in str(raised.value)


words = st.text(st.characters(exclude_characters=",+ ", exclude_categories=("Z", "C")), min_size=1)


@given(st.lists(st.floats(allow_nan=False), unique=True, min_size=1))
def test_numbers_survive_the_command_line(values: list[float]) -> None:
    option, word = VALUES.words(tuple(values))
    assert option == "--values"
    assert VALUES.read(word, option) == tuple(values)


@given(st.lists(st.lists(words, min_size=1, unique=True).map(tuple), min_size=1, unique=True).map(tuple))
def test_lists_of_lists_survive_the_command_line(groups: tuple[tuple[str, ...], ...]) -> None:
    given = GROUPS.words(groups)
    if groups != (("none",),):
        assert GROUPS.read(given[1::2], "--group") == groups


@given(
    st.fixed_dictionaries(
        {
            "numbers": st.lists(st.integers(), min_size=1).map(tuple),
            "groups": st.lists(st.lists(st.text(), min_size=1).map(tuple)).map(tuple),
            "rate": st.floats(min_value=0, exclude_min=True, allow_infinity=True),
            "flag": st.booleans(),
            "file": st.none() | words.map(Path),
        }
    )
)
def test_values_survive_a_file(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    file = tmp_path_factory.mktemp("toml") / "settings.toml"
    values["groups"] = tuple(tuple(n.encode(errors="replace").decode() for n in g) for g in values["groups"])
    file.write_bytes(toml_text(values).encode())
    assert read_toml(file, KNOWN) == {k: v for k, v in values.items() if v is not None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ratee = 1", "FILE: unknown key 'ratee'; did you mean rate"),
        ("rate = 0", "FILE: rate is 0; it takes a rate above 0"),
        ("kind = 'l3'", "FILE: unknown kind 'l3': it takes l2, none or unrelated:; did you mean l2?"),
        ("group = ['a']\ngroups = ['b']", "FILE: groups is given twice, once as groups"),
        ("rate = ", "FILE is not TOML"),
        ("[rate]\nx = 1", "FILE: rate is {'x': 1}; it takes a rate above 0"),
        (None, "cannot read FILE: No such file"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "run.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_toml(file, KNOWN)
    assert says.replace("FILE", str(file)) in str(raised.value)
    assert "\n" not in str(raised.value)
    file.write_bytes(b"kind = '\xff'")
    with pytest.raises(InputError, match="is not TOML"):
        read_toml(file, KNOWN)
