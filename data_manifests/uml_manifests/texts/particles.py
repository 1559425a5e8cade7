"""Korean nouns without the particle behind them: `사과를` (apple, as an object) is a form of `사과`.

Particles are written on to their noun, so that a noun of a sentence is rarely a word of its own. Most of them
have two forms, one behind a vowel and one behind a consonant. The form must fit: `사과` is no `사` with the
particle `과`, because `사` ends in a vowel and takes `와`.
"""

from __future__ import annotations

_FIRST, _LAST = 0xAC00, 0xD7A3  # the block of composed syllables
_FINALS = 28  # a syllable's number modulo this is the number of its final consonant; 0: it ends in a vowel
_RIEUL = 8  # the consonant that takes 로 as a vowel does

_BEHIND_BOTH = [
    "의", "에", "에서", "에게", "에게서", "한테", "한테서", "께", "께서", "도", "만", "까지", "부터",
    "마다", "보다", "처럼", "같이", "조차", "마저", "밖에", "하고", "뿐", "대로", "만큼", "입니다",
    "이다", "에는", "에도", "에만", "에서는", "에서도", "에서만", "에서의", "에게는", "에게도",
    "까지는", "까지도", "부터는", "만은", "만이", "만을", "보다는",
]  # fmt: skip
_BEHIND_VOWELS = [
    "는", "가", "를", "와", "나", "라도", "든지", "랑", "예요", "라고", "라는", "란", "와의", "와는",
    "와도",
]  # fmt: skip
_BEHIND_CONSONANTS = [
    "은", "이", "을", "과", "이나", "이라도", "이든지", "이랑", "이에요", "이라고", "이라는", "이란",
    "과의", "과는", "과도",
]  # fmt: skip
_TOWARDS = [  # behind a vowel or ㄹ
    "로", "로는", "로도", "로서", "로써", "로부터",
]  # fmt: skip
_TOWARDS_BEHIND_CONSONANTS = [f"으{form}" for form in _TOWARDS]
_MANY = "들"

_PARTICLES = frozenset(
    [*_BEHIND_BOTH, *_BEHIND_VOWELS, *_BEHIND_CONSONANTS, *_TOWARDS, *_TOWARDS_BEHIND_CONSONANTS]
)
_LONGEST = max(map(len, _PARTICLES))


def without_particle(word: str) -> list[str]:
    """What a word may be a form of: itself without a particle, without the plural's syllable, without both.

    The longest come first. Empty where the word ends in no Korean particle.
    """
    found = [
        word[:at]
        for at in range(len(word) - 1, max(0, len(word) - _LONGEST - 1), -1)
        if word[at:] in _PARTICLES and _fits(word[at - 1], word[at:])
    ]
    several = [form for form in (word, *found) if form.endswith(_MANY)]
    return [*found, *(form[:-1] for form in several if len(form) > 1)]


def _fits(before: str, particle: str) -> bool:
    """Whether a particle has the form that it takes behind a syllable; behind other scripts both forms do."""
    if not _FIRST <= ord(before) <= _LAST:
        return True
    final = (ord(before) - _FIRST) % _FINALS
    if particle in _BEHIND_VOWELS:
        return final == 0
    if particle in _TOWARDS:
        return final in (0, _RIEUL)
    if particle in _TOWARDS_BEHIND_CONSONANTS:
        return final not in (0, _RIEUL)
    return particle not in _BEHIND_CONSONANTS or final != 0
