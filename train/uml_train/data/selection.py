"""Which stores of a cache a run uses: target and auxiliary names to stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uml_cache import InputError, StoreInfo, clean_name, find_stores, first_state, unknown

_STATE = re.compile(r":(?P<encoder>[^:]+)~(?P<state>[1-9][0-9]*)$")  # of a store that has grown
_TARGET_ORDER = ("image", "audio", "text")
# The first auxiliary's space is the shared one: text where there is some, as in the paper.
_AUXILIARY_ORDER = ("text", "image", "audio")


@dataclass(frozen=True)
class Role:
    """A store and the name that the run's tables call it by: `text`, `text.cupl` or as the user wrote it."""

    label: str
    store: StoreInfo


@dataclass(frozen=True)
class Selection:
    """What a run trains on: a data set, its target, and configurations of auxiliaries.

    `remarks` say which stores were passed over.
    """

    dataset: str
    target: Role
    configurations: tuple[tuple[Role, ...], ...]
    remarks: tuple[str, ...] = ()

    @property
    def auxiliaries(self) -> list[Role]:
        """Each auxiliary once, in order of first use."""
        return list({role.label: role for roles in self.configurations for role in roles}.values())


def select_stores(
    cache: Path,
    dataset: str | None,
    target: str | None,
    auxiliaries: Sequence[Sequence[str]] | None,
    *,
    prefer_tokens: bool = False,
    only_tokens: bool = False,
) -> Selection:
    """Find the stores that a command line means.

    Names are `modality[.set][:encoder[@variant][~state]]`. Without `target`: image, else audio, else
    text. Without `auxiliaries`: every other modality, each one alone and, where there are several, all
    together. With `prefer_tokens`, where several stores fit a name, those with tokens are found. With
    `only_tokens` no others count, and an auxiliary may come from another data set (`NAME/modality`): it
    needs no classes.

    Raises:
        InputError: an empty cache, a name that fits no store, several stores that fit (all are listed).
    """
    named = [name for names in auxiliaries or () for name in names]
    everywhere = _usable(cache, only_tokens, [*named, *([] if target is None else [target])])
    dataset = _data_set(cache, everywhere, dataset)
    stores = [store for store in everywhere if store.dataset == dataset]
    modalities = list(dict.fromkeys(store.modality for store in stores))
    if target is None:
        target = next(m for m in (*_TARGET_ORDER, *modalities) if m in modalities)
    trials = [store for store in stores if store.is_trial and _whole(store, stores)]
    remarks = [_passed_over(store, "is a trial", _whole(store, stores)) for store in trials]
    passed_over = list(trials)
    whole = [store for store in stores if store not in trials]
    if not only_tokens:
        unlabelled = [s for s in whole if not s.classes and _better(s, whole)]
        remarks += [_passed_over(s, "has no labels", _better(s, whole)) for s in unlabelled]
        passed_over += unlabelled
    stores = [store for store in stores if store not in passed_over]

    def find(name: str, option: str) -> Role:
        return _find([*stores, *_meant(passed_over, stores, name)], name, option, prefer_tokens)

    chosen = find(target, "--target")
    if auxiliaries is None:
        auxiliaries = _every_other([s for s in stores if s.modality != chosen.store.modality])
    elsewhere = everywhere if only_tokens else []
    roles = [
        tuple(_find_elsewhere(elsewhere, name, prefer_tokens) or find(name, "--aux") for name in names)
        for names in auxiliaries
    ]
    for configuration in roles:
        if any(role.store.path == chosen.store.path for role in configuration):
            raise InputError(f"--aux names the target's own store {chosen.store.path}")
        if len({role.label for role in configuration}) < len(configuration):
            raise InputError(f"--aux names {configuration[0].label} twice in one configuration")
    used = {role.label: role for role in (chosen, *(role for names in roles for role in names))}
    remarks += [
        f"{role.label}: state {role.store.state} of a store that has grown ({role.store.path})"
        for role in used.values()
        if role.store.state > 1
    ]
    return Selection(dataset, chosen, tuple(roles), tuple(remarks))


def _with_states(cache: Path, names: Iterable[str]) -> list[StoreInfo]:
    """The current state of every store, or another one that a name asks for: `image:hog-color~1`."""
    current = find_stores(cache)
    asked = [found for name in names if (found := _STATE.search(name))]
    if not asked:
        return current
    every = find_stores(cache, states=True)
    chosen: dict[Path, StoreInfo] = {}
    for found in asked:
        fitting = [s for s in every if s.state == int(found["state"]) and full_name(s) == found["encoder"]]
        if not fitting:
            there = {f"{full_name(s)}~{s.state}" for s in every}
            raise unknown("state of a store", found[0].lstrip(":"), there)
        chosen |= {first_state(store.path): store for store in fitting}
    return [chosen.get(first_state(store.path), store) for store in current]


def _usable(cache: Path, only_tokens: bool, names: Iterable[str]) -> list[StoreInfo]:
    """The cache's stores that hold what the objective learns from: features, or with `only_tokens` tokens."""
    stores = _with_states(cache, names)
    if not stores:
        raise InputError(
            f"{cache} holds no feature store; fill it with `uml extract --encoder NAME --out {cache}`"
        )
    if not only_tokens:
        # Ids of tokens are no features: they stand in nobody's way.
        return [store for store in stores if store.dim is not None] or stores
    stores = [store for store in stores if store.token_dim is not None]
    if not stores:
        raise InputError(
            f"{cache} holds no store with tokens, which the objectives ssl and joint learn from; "
            "extract with --tokens"
        )
    return stores


def _data_set(cache: Path, stores: Sequence[StoreInfo], asked: str | None) -> str:
    names = sorted({store.dataset for store in stores})
    if asked is None and len(names) > 1:
        raise InputError(f"{cache} holds several data sets: {', '.join(names)}; choose with --dataset NAME")
    if asked is not None and asked not in names:
        asked = clean_name(asked)  # as new stores have it
    if asked is not None and asked not in names:
        raise unknown("data set", asked, names)
    return asked or names[0]


def _every_other(others: Sequence[StoreInfo]) -> list[list[str]]:
    """Each auxiliary alone and, where there are several, all together; the paper's shared space first."""
    ordered = sorted(others, key=lambda s: [s.modality != m for m in _AUXILIARY_ORDER])
    names = list(dict.fromkeys(_label(store) for store in ordered))
    return [[name] for name in names] + ([names] if len(names) > 1 else [])


def _better(store: StoreInfo, stores: Sequence[StoreInfo]) -> list[StoreInfo]:
    """The stores of the same modality that have labels: heads learn nothing from one without."""
    return [s for s in stores if s.modality == store.modality and s.classes]


def _whole(trial: StoreInfo, stores: Sequence[StoreInfo]) -> list[StoreInfo]:
    """The stores beside a trial (`uml extract --limit`) that are none: it stands in nobody's way."""
    return [s for s in stores if _label(s) == _label(trial) and not s.is_trial]


def _passed_over(store: StoreInfo, why: str, better: Sequence[StoreInfo]) -> str:
    names = ", ".join(f"{_label(s)}:{full_name(s)}" for s in better)
    return f"{_label(store)}:{full_name(store)} of {store.dataset} {why} and is passed over for {names}"


def _meant(passed_over: Sequence[StoreInfo], stores: Sequence[StoreInfo], name: str) -> list[StoreInfo]:
    """Of the stores that are passed over, those that a name can only mean."""
    place, _, encoder = name.partition(":")
    taken = {name for store in stores for name in (store.modality, _label(store))}
    return [
        store
        for store in passed_over
        if place == _label(store) and (_is_named(store, encoder) if encoder else place not in taken)
    ]


def _is_named(store: StoreInfo, encoder: str) -> bool:
    encoder = _STATE.sub(r":\g<encoder>", f":{encoder}")[1:]
    return encoder == full_name(store) or (encoder == store.encoder_name and not store.is_trial)


def _find_elsewhere(elsewhere: Sequence[StoreInfo], name: str, prefer_tokens: bool) -> Role | None:
    """The store of another data set that `NAME/modality` means; None where no such data set is there."""
    dataset, _, rest = name.partition("/")
    others = [store for store in elsewhere if store.dataset == dataset]
    return Role(name, _find(others, rest, "--aux", prefer_tokens).store) if rest and others else None


def select_beside(
    cache: Path, target: Role, auxiliaries: Sequence[Sequence[str]] | None, tuned: Role | None
) -> Selection:
    """The auxiliaries of a target that is no store: a manifest that a network is trained on.

    Args:
        tuned: an auxiliary that is no store either; without `auxiliaries` it is the only one.

    Raises:
        InputError: as `select_stores`; an auxiliary is named and the cache holds nothing of the data set.
    """
    dataset, modality = target.store.dataset, target.store.modality
    cached = find_stores(cache) if cache.is_dir() else []
    stores = [store for store in cached if store.dataset == dataset and store.dim is not None]
    stores = [store for store in stores if not (store.is_trial and _whole(store, stores))]
    if auxiliaries is None and tuned is not None:
        return Selection(dataset, target, ((tuned,),))
    if auxiliaries is None:
        auxiliaries = _every_other([store for store in stores if store.modality != modality])
    roles = []
    for configuration in auxiliaries:
        found = []
        for name in configuration:
            if tuned is not None and name == tuned.label:
                found.append(tuned)
                continue
            if not stores:
                raise InputError(
                    f"{cache} holds no features of {dataset!r}, which --aux {name} asks for; make them with "
                    f"`uml extract --encoder NAME --data … --name {dataset} --out {cache}`"
                )
            found.append(_find(stores, name, "--aux", False))
        if len({role.label for role in found}) < len(found):
            raise InputError(f"--aux names {found[0].label} twice in one configuration")
        roles.append(tuple(found))
    return Selection(dataset, target, tuple(roles))


def select_unrelated(
    cache: Path, dataset: str, selection: Selection, *, only_tokens: bool = False
) -> list[Role]:
    """The stores of another data set that stand in for each auxiliary: same modality, set and encoder.

    Raises:
        InputError: no such data set, the target's own, or a store of it that is missing.
    """
    stores = [s for s in find_stores(cache) if not only_tokens or s.token_dim is not None]
    names = {store.dataset for store in stores} - {selection.dataset}
    if dataset not in names:
        raise unknown("data set in the control", f"unrelated:{dataset}", {f"unrelated:{n}" for n in names})
    roles = []
    for role in selection.auxiliaries:
        wanted = (_label(role.store), full_name(role.store))
        fitting = [s for s in stores if s.dataset == dataset and (_label(s), full_name(s)) == wanted]
        if not fitting:
            raise InputError(
                f"the control unrelated:{dataset} needs its {wanted[0]} from {wanted[1]}, the encoder of "
                f"{role.label}; `uml extract --encoder {wanted[1].partition('@')[0]}` makes it"
            )
        roles.append(Role(f"{role.label}@{dataset}", fitting[0]))
    return roles


def _label(store: StoreInfo) -> str:
    return f"{store.modality}.{store.set}" if store.set else store.modality


def _find(stores: Sequence[StoreInfo], name: str, option: str, tokens: bool) -> Role:
    """The one store that a name fits."""
    place, colon, encoder = _STATE.sub(r":\g<encoder>", name).partition(":")
    fitting = [s for s in stores if place in (_label(s), s.modality)]
    if not fitting:
        raise unknown(f"{option} modality", place, {_label(s) for s in stores})
    if exact := [s for s in fitting if _label(s) == place]:
        fitting = exact
    if colon:
        named = [s for s in fitting if encoder in (s.encoder_name, full_name(s))]
        if not named:
            raise unknown(f"encoder in {option} {name}:", encoder, {full_name(s) for s in fitting})
        fitting = [s for s in named if full_name(s) == encoder] or named
    if tokens:
        fitting = [s for s in fitting if s.token_dim is not None] or fitting
    elif len({(_label(s), full_name(s).removesuffix("tokens").rstrip("@-")) for s in fitting}) == 1:
        # `uml extract --tokens` beside a store of the same encoder: their pooled features are the same.
        fitting = [s for s in fitting if s.token_dim is None] or fitting
    if len(fitting) > 1:
        options = ", ".join(f"{_label(s)}:{full_name(s)}" for s in fitting)
        raise InputError(f"several stores fit {option} {name}: {options}; name one of them with {option}")
    return Role(name if colon else _label(fitting[0]), fitting[0])


def full_name(store: StoreInfo) -> str:
    """Such as `dinov2_vits14@paper`, the name that tells a store from others of its modality."""
    return f"{store.encoder_name}@{store.variant}" if store.variant else store.encoder_name
