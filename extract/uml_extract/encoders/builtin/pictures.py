"""Image encoders without weights: `pixels`, and `hog-color`, a real baseline for objects and scenes.

Shapes: B images, S pixels a side, D features, P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.encoders.builtin.plain import PlainEncoder, refuse_options
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec

if TYPE_CHECKING:
    from uml_manifests import Manifest

PIXELS_SIZE, PATCH = 32, 8
SIZE = 64  # hog-color
CELL, ORIENTATIONS, BLOCK = 16, 9, 2
COLORS = 4  # levels per channel of the colour histogram
_CELLS = SIZE // CELL
_BLOCKS = _CELLS - BLOCK + 1
BLOCK_WIDTH = BLOCK * BLOCK * ORIENTATIONS
HOG_WIDTH = _BLOCKS * _BLOCKS * BLOCK_WIDTH
COLOR_GRID = 2
COLOR_WIDTH = COLOR_GRID * COLOR_GRID * COLORS**3
_AT_ONCE = 8  # pictures whose gradients fit the processor's cache: half the time of 64


def _resized(image: Any, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the shorter side scaled to `size`, the centre cut out.

    The transform's `jpeg_side` lets the reader decode large JPEGs at a part of their size before.
    """
    from PIL import Image, ImageOps

    if image.size == (size, size):
        return np.asarray(image)
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


class Pixels(PlainEncoder):
    """The picture itself at 32×32 in [-1, 1]: flattened (3072), and as 16 patches of 8×8×3 = 192."""

    batch_size = 256

    def prepare(self, sample: Any) -> np.ndarray:
        """The picture at the size that is taken, (H, W, 3) uint8."""
        return _resized(sample, PIXELS_SIZE)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32, the same number of patches for every picture."""
        return np.full(len(manifest), (PIXELS_SIZE // PATCH) ** 2, dtype=np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Pixels from −1 to 1 as one vector (B, D) float32, and with `tokens` patch by patch."""
        values = np.stack(batch).astype(np.float32) / np.float32(127.5) - np.float32(1)
        count, side = len(values), PIXELS_SIZE // PATCH
        patches = values.reshape(count, side, PATCH, side, PATCH, 3).swapaxes(2, 3)
        pooled = values.reshape(count, -1)
        if not tokens:
            return Encoded(pooled)
        return Encoded(
            pooled,
            np.ascontiguousarray(patches).reshape(count * side * side, -1),
            np.full(count, side * side, dtype=np.int32),
        )


class HogColor(PlainEncoder):
    """Histograms of oriented gradients and of colours, at 64×64.

    Shape: gradients of the strongest channel, 9 unsigned orientations with linear votes, cells of 16 pixels,
    overlapping blocks of 2×2 cells normalised as by Dalal and Triggs (L2, clipped at 0.2, L2). Colour: square
    roots of joint 4×4×4 RGB histograms of the four quadrants. Both halves have unit norm, so that neither
    drowns the other. Tokens are the 9 blocks.
    """

    batch_size = 64

    def prepare(self, sample: Any) -> np.ndarray:
        """The picture at the size that is taken, (H, W, 3) uint8."""
        return _resized(sample, SIZE)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Histograms of gradients and colours, (B, D) float32, and with `tokens` block by block."""
        parts = [np.stack(batch[at : at + _AT_ONCE]) for at in range(0, len(batch), _AT_ONCE)]
        blocks = np.concatenate([_blocks(images) for images in parts])
        shape = blocks.reshape(len(batch), -1)
        shape = shape / np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-6)
        pooled = np.concatenate([shape, np.concatenate(list(map(_colors, parts)))], axis=1)
        if not tokens:
            return Encoded(pooled)
        lengths = np.full(len(batch), _BLOCKS * _BLOCKS, dtype=np.int32)
        return Encoded(pooled, blocks.reshape(-1, BLOCK_WIDTH), lengths)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32, the same number of blocks for every picture."""
        return np.full(len(manifest), _BLOCKS * _BLOCKS, dtype=np.int32)


def _blocks(images: np.ndarray) -> np.ndarray:
    """(B, S, S, 3) uint8 → (B, 9, BLOCK_WIDTH) float32, each block of norm 1 or, where it is flat, less."""
    count = len(images)
    # int16 halves the memory traffic of float32 and holds every difference of two bytes exactly
    wide = images.astype(np.int16)
    right, down = np.zeros_like(wide), np.zeros_like(wide)
    right[:, :, 1:-1] = wide[:, :, 2:] - wide[:, :, :-2]
    down[:, 1:-1] = wide[:, 2:] - wide[:, :-2]
    gx, gy = _strongest(right, down)
    magnitude = np.sqrt(gx * gx + gy * gy) / np.float32(255)
    # An edge and its mirror image point the same way: angles modulo half a turn.
    place = np.arctan2(gy, gx) * np.float32(ORIENTATIONS / np.pi)
    low = np.floor(place)
    upper_vote = magnitude * (place - low)
    lower = low.astype(np.int32) % ORIENTATIONS
    upper = (lower + 1) % ORIENTATIONS
    cell = np.arange(SIZE) // CELL
    cell_of = cell[:, None] * _CELLS + cell[None, :]
    base = (np.arange(count)[:, None, None] * _CELLS * _CELLS + cell_of) * ORIENTATIONS
    bins = count * _CELLS * _CELLS * ORIENTATIONS
    votes = np.bincount((base + lower).ravel(), (magnitude - upper_vote).ravel(), bins)
    votes += np.bincount((base + upper).ravel(), upper_vote.ravel(), bins)
    cells = votes.astype(np.float32).reshape(count, _CELLS, _CELLS, ORIENTATIONS)
    corners = [(dy, dx) for dy in range(BLOCK) for dx in range(BLOCK)]
    parts = [cells[:, dy : dy + _BLOCKS, dx : dx + _BLOCKS] for dy, dx in corners]
    blocks = np.stack(parts, axis=3).reshape(count, _BLOCKS * _BLOCKS, BLOCK_WIDTH)
    # The constant keeps the noise of a flat region from being blown up to a full-size histogram.
    blocks = np.minimum(blocks / (np.linalg.norm(blocks, axis=2, keepdims=True) + 1.0), 0.2)
    return blocks / (np.linalg.norm(blocks, axis=2, keepdims=True) + 0.1)


def _strongest(right: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, S, S, 3) int16 differences → (B, S, S) float32 each, of the channel with the largest of them."""
    strength = np.abs(right) + np.abs(down)
    gx, gy, best = right[..., 0], down[..., 0], strength[..., 0]
    for channel in (1, 2):
        better = strength[..., channel] > best
        gx = np.where(better, right[..., channel], gx)
        gy = np.where(better, down[..., channel], gy)
        best = np.maximum(best, strength[..., channel])
    return gx.astype(np.float32), gy.astype(np.float32)


def _colors(images: np.ndarray) -> np.ndarray:
    """(B, S, S, 3) uint8 → (B, COLOR_WIDTH) float32 of unit norm."""
    count = len(images)
    level = images >> 6
    color = (level[..., 0].astype(np.int32) * COLORS + level[..., 1]) * COLORS + level[..., 2]
    part = np.arange(SIZE) * COLOR_GRID // SIZE
    part_of = part[:, None] * COLOR_GRID + part[None, :]
    base = (np.arange(count)[:, None, None] * COLOR_GRID**2 + part_of) * COLORS**3
    counts = np.bincount((base + color).ravel(), minlength=count * COLOR_WIDTH)
    return np.sqrt(counts.reshape(count, COLOR_WIDTH) / (SIZE * SIZE)).astype(np.float32)


PIXELS_SPEC = EncoderSpec(
    name="pixels",
    modality="image",
    library="numpy",
    model="pixels-1",
    width=3 * PIXELS_SIZE * PIXELS_SIZE,
    token_width=3 * PATCH * PATCH,
    pooling="flatten",
    transform={
        "jpeg_side": PIXELS_SIZE,
        "resize": PIXELS_SIZE,
        "crop": "center",
        "interpolation": "bilinear",
        "patch": PATCH,
    },
    licence="Apache-2.0",
    parameters=0,
)
HOG_SPEC = EncoderSpec(
    name="hog-color",
    modality="image",
    library="numpy",
    model="hog-color-1",
    width=HOG_WIDTH + COLOR_WIDTH,
    token_width=BLOCK_WIDTH,
    pooling="histogram",
    transform={
        "jpeg_side": SIZE,
        "resize": SIZE,
        "crop": "center",
        "interpolation": "bilinear",
        "cell": CELL,
        "orientations": ORIENTATIONS,
        "block": BLOCK,
        "colors": COLORS**3,
        "color_grid": COLOR_GRID,
    },
    licence="Apache-2.0",
    parameters=0,
)


def load_pixels(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Pixels:
    """The `pixels` encoder; it has no options."""
    refuse_options(spec, options)
    return Pixels(spec)


def load_hog_color(spec: EncoderSpec, rest: str, options: EncoderOptions) -> HogColor:
    """The `hog-color` encoder; it has no options."""
    refuse_options(spec, options)
    return HogColor(spec)
