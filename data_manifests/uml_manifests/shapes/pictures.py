"""Pictures of the shapes world: 64 × 64 RGB, every nuisance drawn afresh.

Colour, size and outline of an object vary, and so do place, rotation, background, clutter and noise, so that
four pictures of a class do not tell a linear model everything.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from uml_manifests.shapes.world import Kind

SIDE = 64
_DRAWN = 2 * SIDE  # drawn at twice the size, then averaged down: smooth edges
_HUES = (0.0, 0.14, 0.36, 0.61)  # red, yellow, green, blue
_RADII = (0.15, 0.27)  # of the picture's side: small, large
_SHIFT = 0.03  # of the side, from the middle
_Point = tuple[float, float]


def draw_picture(kind: Kind, rng: np.random.Generator) -> Image.Image:
    """One picture of a class."""
    picture = _background(rng)
    canvas = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 3)):
        _clutter(canvas, rng)
    radius = _RADII[kind.size] * rng.uniform(0.9, 1.11) * _DRAWN
    x, y = _DRAWN * rng.uniform(0.5 - _SHIFT, 0.5 + _SHIFT, 2)
    _object(canvas, kind.shape, (x, y), radius, _colour(kind.colour, rng), rng)
    pixels = np.asarray(picture.reduce(2), dtype=np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(3, 7)
    light = rng.uniform(0.88, 1.1)
    return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))


def _background(rng: np.random.Generator) -> Image.Image:
    corners = rng.uniform(100, 180) + rng.uniform(-20, 20, (2, 2, 1)) + rng.uniform(-10, 10, (2, 2, 3))
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    return small.resize((_DRAWN, _DRAWN), Image.Resampling.BILINEAR)


def _clutter(canvas: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A thin stroke or a speck of any colour: something that is not the object."""
    x, y = rng.uniform(0, _DRAWN, 2)
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.4) * _DRAWN
    colour = tuple(int(v) for v in rng.integers(30, 226, 3))
    if rng.random() < 0.5:
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        canvas.line([(x, y), end], fill=colour, width=int(rng.integers(2, 6)))
    else:
        r = rng.uniform(0.02, 0.06) * _DRAWN
        canvas.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _colour(colour: int, rng: np.random.Generator) -> tuple[int, int, int]:
    hue = (_HUES[colour] + rng.normal(0, 0.025)) % 1.0
    rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.65, 0.95), rng.uniform(0.65, 0.95))
    return (int(255 * rgb[0]), int(255 * rgb[1]), int(255 * rgb[2]))


def _object(
    canvas: ImageDraw.ImageDraw,
    shape: int,
    centre: _Point,
    radius: float,
    colour: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """A filled outline, turned by up to 20 degrees and stretched by up to 15 %."""
    turn, stretch = rng.uniform(-0.25, 0.25), rng.uniform(0.92, 1.09)
    outline = _outline(shape, rng)
    canvas.polygon(_placed(outline, centre, radius, turn, stretch), fill=colour)
    if shape == 5:  # the ring's hole shows some colour of its own, as the background would be
        hole = tuple(int(v) for v in rng.integers(50, 206, 3))
        inner = _placed(outline, centre, radius * rng.uniform(0.45, 0.65), turn, stretch)
        canvas.polygon(inner, fill=hole)


def _outline(shape: int, rng: np.random.Generator) -> list[_Point]:
    """Corner points around the origin, about 1 from it."""
    if shape in (0, 5):
        return _regular(28, 0.0, 1.0)
    if shape == 1:
        return _regular(4, math.pi / 4, 1.1)
    if shape == 2:
        return _regular(3, -math.pi / 2, 1.15)
    if shape == 3:
        dip = rng.uniform(0.4, 0.55)
        outer, inner = _regular(5, -math.pi / 2, 1.15), _regular(5, -math.pi / 2 + math.pi / 5, 1.15 * dip)
        return [point for pair in zip(outer, inner, strict=True) for point in pair]
    arm = rng.uniform(0.26, 0.4)
    quarter = [(arm, -1.05), (arm, -arm), (1.05, -arm)]
    return [_turned(point, step * math.pi / 2) for step in range(4) for point in quarter]


def _regular(corners: int, start: float, radius: float) -> list[_Point]:
    angles = (start + 2 * math.pi * i / corners for i in range(corners))
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _turned(point: _Point, angle: float) -> _Point:
    x, y = point
    return (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle))


def _placed(
    outline: list[_Point], centre: _Point, radius: float, turn: float, stretch: float
) -> list[_Point]:
    points = (_turned((x * stretch, y / stretch), turn) for x, y in outline)
    return [(centre[0] + radius * x, centre[1] + radius * y) for x, y in points]
