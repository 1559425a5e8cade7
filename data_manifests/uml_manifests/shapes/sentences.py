"""Sentences of the shapes world: what a person might write about such an object, worded in many ways."""

from __future__ import annotations

import numpy as np

from uml_manifests.shapes.world import Kind

_SIZE_WORDS = (
    ("small", "little", "tiny", "compact", "miniature", "modest"),
    ("large", "big", "huge", "broad", "great", "oversized"),
)
_COLOUR_WORDS = (
    ("red", "crimson", "scarlet", "ruby"),
    ("yellow", "golden", "lemon", "amber"),
    ("green", "emerald", "olive", "mossy"),
    ("blue", "navy", "azure", "cobalt"),
)
_SHAPE_WORDS = (
    ("circle", "disc", "round dot", "filled circle"),
    ("square", "box", "four-sided block", "square tile"),
    ("triangle", "three-cornered figure", "wedge", "pointed triangle"),
    ("star", "five-pointed star", "starry figure", "star with spikes"),
    ("cross", "plus sign", "upright cross", "crossed pair of bars"),
    ("ring", "hoop", "hollow circle", "loop with a hole"),
)
_PLAIN_WORD = 0.55  # how often the class's own word is taken instead of a synonym

_TEMPLATES = (
    "There is {a_size} {colour} {shape} in the picture.",
    "{A_size} {shape}, painted {colour}.",
    "Somebody drew {a_size} {shape} and filled it with {colour} ink.",
    "I can make out {a_colour} {shape}; it looks {size}.",
    "The object is {size}, {colour} and has the form of {a_shape}.",
    "On a noisy background lies {a_size} {colour} {shape}.",
    "What stands out is {a_colour} {shape} of {size} size.",
    "{A_colour} {shape}, rather {size}.",
    "Look for {a_size} {shape} in {colour}.",
    "It could be a sticker: {a_size} {shape}, all {colour}.",
    "Between a few stray lines you find {a_size} {colour} {shape}.",
    "The {shape} is {colour}, and it is {size} for its kind.",
    "Imagine {a_shape} cut from {colour} paper, {size} enough to notice.",
    "My notes say: {size} {shape}, colour {colour}.",
    "In this one, {a_colour} {shape} takes up {size} space.",
    "Compared with the others, this {colour} {shape} is {size}.",
)


def write_sentence(kind: Kind, rng: np.random.Generator) -> str:
    """One sentence about a class; size, colour and shape are all named."""
    words = {
        "size": _word(_SIZE_WORDS[kind.size], rng),
        "colour": _word(_COLOUR_WORDS[kind.colour], rng),
        "shape": _word(_SHAPE_WORDS[kind.shape], rng),
    }
    articles = {f"a_{key}": f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for key, word in words.items()}
    capitals = {key.capitalize(): text.capitalize() for key, text in articles.items()}
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    return template.format(**words, **articles, **capitals)


def _word(words: tuple[str, ...], rng: np.random.Generator) -> str:
    if rng.random() < _PLAIN_WORD:
        return words[0]
    return words[rng.integers(1, len(words))]
