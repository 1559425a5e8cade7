"""Settings, each declared once: a field `Annotated[type, Setting("help", …)] = default` of `Settings`.

The options of a command (`uml_cache.command`), TOML files, the JSON record of a run and the command that
repeats it are all made from these declarations. This module imports nothing heavy, so that `--help` is fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from math import inf
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    SupportsFloat,
    SupportsIndex,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from uml_cache.errors import InputError, unknown

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", dict: "a table"}


@dataclass(frozen=True)
class Setting:
    """What a setting says of itself; `declared` adds name, type and default from its field.

    Args:
        help: what it is for, in a sentence or two.
        group: the heading that `--help` shows it under; those without one come first.
        option: the option's name where it is not the field's.
        metavar: the pattern of its values.
        choices: the allowed values, or those of a tuple's items; behind one that ends with `:` comes a name.
        takes: the allowed values in words, for errors.
        check: whether a value of the right type is allowed.
        role: `choice` decides numbers; `data` says what they are about; `file` names a file whose content
            decides; `local` says where and how, and changes no number.
        ways: the commands that it means something to; () stands for those of the class.
    """

    help: str
    group: str = ""
    option: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    takes: str = ""
    check: Callable[[Any], bool] | None = None
    role: Literal["choice", "data", "file", "local"] = "choice"
    ways: tuple[str, ...] = ()
    name: str = ""
    kind: Any = str
    default: Any = None

    @property
    def items(self) -> Any:
        """The type of the items of a tuple; None where the setting is none."""
        kinds = (self.kind, *get_args(self.kind))
        return next((get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple), None)

    @property
    def many(self) -> bool:
        """Whether a command line says the option once for every value."""
        return get_origin(self.items) is tuple

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        kinds = (self.kind, *get_args(self.kind))
        usual = next((words for kind, words in _IN_WORDS.items() if kind in kinds), "text")
        return self.takes or " or ".join(", ".join(self.choices).rsplit(", ", 1)) or usual

    def suits(self, way: str) -> bool:
        """Whether it means something to the command `way`."""
        return not self.ways or way in self.ways

    def read(self, value: Any, where: str) -> Any:
        """The setting's value from words of a command line, or from a value of JSON, TOML or Python.

        Args:
            where: what an error calls the setting.

        Raises:
            InputError: a value that is not allowed, said with those that are.
        """
        try:
            found = _read(value, self.kind)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except (ValueError, OverflowError):
            raise self._refused(value, where) from None
        if found is None:
            return None
        for one in found if isinstance(found, tuple) else (found,):
            if self.choices and not any(map(partial(_fits, one), self.choices)):
                close = get_close_matches(str(one), self.choices, n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise InputError(f"unknown {where.lstrip('-')} {one!r}: it takes {self.allowed}{hint}")
        if self.check is not None and not self.check(found):
            raise self._refused(value, where)
        return found

    def _refused(self, value: Any, where: str) -> InputError:
        shown = repr(value) if isinstance(value, str) else _word(value, ", ")
        verb = "are" if isinstance(value, tuple | list) and where.endswith("s") else "is"
        return InputError(f"{where} {verb} {shown}; it takes {self.allowed}")

    def words(self, value: Any) -> list[str]:
        """What a command line says for a value."""
        if isinstance(value, bool):
            return [self.option.split("/")[not value]]
        each = value if self.many and value else [value]
        return [word for one in each for word in (self.option, _word(one, "," if one is value else "+"))]


_LONGEST_RANGE = 10_000


def _fits(value: Any, choice: str) -> bool:
    return value.startswith(choice) and value != choice if choice.endswith(":") else value == choice


def _read(value: Any, kind: Any, separator: str = ",") -> Any:
    """`value` as `kind`. Raises `ValueError` where it is none."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        for one in inner:
            try:
                return _read(value, one, separator)
            except InputError:  # it was read, and is too much
                raise
            except ValueError:
                continue
    elif get_origin(kind) is tuple:
        if isinstance(value, str):
            value = () if value == "none" else _parts(value, inner[0], separator)
            return tuple(dict.fromkeys(_read(one, inner[0], "+") for one in value))
        return tuple(
            _read(one, inner[0], "+") for one in (value if isinstance(value, list | tuple) else [value])
        )
    elif isinstance(value, bool) or value is None:
        if type(value) is kind:
            return value
    elif kind is int and (isinstance(value, SupportsIndex) or str(value).lstrip("-").isdecimal()):
        return int(value)
    elif kind is float and isinstance(value, SupportsFloat | str):
        return float(value)
    elif kind in (str, Path) and isinstance(value, str | kind):
        return kind(value)
    elif (get_origin(kind) is Literal and value in inner) or (kind is dict and isinstance(value, Mapping)):
        return value
    raise ValueError


def _parts(text: str, kind: Any, separator: str) -> Iterator[Any]:
    """The items of a list as a command line has it; `1-3` is three whole numbers."""
    for part in map(str.strip, text.split(separator)):
        low, _, high = part.partition("-")
        if int in (kind, *get_args(kind)) and low.isdecimal() and high.isdecimal():
            if int(high) < int(low):
                raise ValueError
            if int(high) - int(low) >= _LONGEST_RANGE:
                raise InputError(
                    f"{part} stands for {int(high) - int(low) + 1:,} numbers, {_LONGEST_RANGE:,} at most"
                )
            yield from range(int(low), int(high) + 1)
        elif part or kind is not str:
            yield part


def _word(value: Any, separator: str) -> str:
    if isinstance(value, tuple | list):
        return separator.join(_word(one, "+") for one in value) or "none"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def declared(kind: type[Settings]) -> dict[str, Setting]:
    """The settings of a class by name, in their order."""
    if kind not in _DECLARED:
        hints = get_type_hints(kind, include_extras=True)
        own = [field for field in fields(kind) if get_origin(hints[field.name]) is Annotated]
        _DECLARED[kind] = {field.name: _named(field, kind, *get_args(hints[field.name])) for field in own}
    return _DECLARED[kind]


_DECLARED: dict[type[Settings], dict[str, Setting]] = {}


def _named(field: Field[Any], owner: type[Settings], inner: Any, setting: Setting) -> Setting:
    option = setting.option or f"--{field.name.replace('_', '-')}"
    if inner is bool and "/" not in option:
        option = f"{option}/--no-{option[2:]}"
    return replace(
        setting,
        option=option,
        name=field.name,
        kind=inner,
        default=None if field.default is MISSING else field.default,
        ways=setting.ways or owner.ways,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings, read and checked one by one when they are made: `shots="1-4"` is `shots=(1, 2, 3, 4)`.

    Raises:
        InputError: a value that is not allowed.
    """

    ways: ClassVar[tuple[str, ...]] = ()
    """The commands of those settings that name none; () is every one."""

    def __post_init__(self) -> None:
        for name, setting in declared(type(self)).items():
            object.__setattr__(self, name, setting.read(getattr(self, name), name))

    def check_way(self, way: str, said: str) -> None:
        """Raises `InputError` for a setting that decides something elsewhere and means nothing to `way`."""
        for name, setting in declared(type(self)).items():
            if not setting.suits(way) and setting.role != "local" and getattr(self, name) != setting.default:
                raise InputError(f"{setting.option} {said}; leave it out")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; `from_json` gives them back."""
        return {name: _plain(getattr(self, name)) for name in declared(type(self))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The settings of a record; one that an older version did not have takes its default.

        Raises:
            InputError: a value that is not allowed, a setting of a newer version.
        """
        for key in values:
            if key not in declared(cls):
                raise InputError(
                    f"the record has the setting {key!r}, which this version does not know; update uml"
                )
        return cls(**values)

    def words(self, way: str) -> list[str]:
        """The options of the command `way` that give these settings: all that are not as usual."""
        given = [s for s in declared(type(self)).values() if s.suits(way)]
        values = [(s, getattr(self, s.name)) for s in given]
        return [word for s, value in values if value != s.default for word in s.words(value)]

    def to_toml(self, way: str) -> str:
        """A file that `--config` of the command `way` takes, with every setting that has a value."""
        given = [s.name for s in declared(type(self)).values() if s.suits(way)]
        return toml_text({name: getattr(self, name) for name in given})


def toml_text(values: Mapping[str, Any]) -> str:
    """Settings as TOML, a line each; what is None is left out."""
    return "".join(f"{key} = {_toml(_plain(value))}\n" for key, value in values.items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def read_toml(path: Path | str, known: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings of a TOML file by name. Its keys are the settings' names or those of their options.

    Raises:
        InputError: no such file, no TOML, an unknown key, a value that is not allowed; each names the file.
    """
    from uml_cache.files.documents import parse_toml

    try:
        values = parse_toml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    try:
        return read_table(values, known, "key")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_table(
    values: Mapping[str, Any], known: Mapping[str, Setting], what: str, at: str = ""
) -> dict[str, Any]:
    """The settings of a table by name. Its keys are the settings' names or those of their options.

    Args:
        what: what errors call an unknown key; `at` begins those about a value.

    Raises:
        InputError: an unknown key, a setting given twice, a value that is not allowed.
    """
    names = {s.option.split("/")[0].lstrip("-").replace("-", "_"): s for s in known.values()} | dict(known)
    found: dict[str, Any] = {}
    for key, value in values.items():
        setting = names.get(key.replace("-", "_"))
        if setting is None:
            raise unknown(what, key, names)
        if setting.name in found:
            raise InputError(f"{at}{setting.name} is given twice, once as {key}; keep one of them")
        found[setting.name] = setting.read(value, f"{at}{key}")
    return found


def all_different(values: tuple[Any, ...]) -> bool:
    """Whether there are values, each once: a `check` for lists that are searched."""
    return 0 < len(values) == len(set(values))


def at_least(low: float) -> Callable[[float], bool]:
    """A `check` for numbers from `low` on."""
    return lambda value: low <= value < inf
