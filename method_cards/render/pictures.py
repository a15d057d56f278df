"""Pictures of a record side by side: one PNG for all of them, with their titles as text of the page."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from method_cards.measurement import Pictures

DIVERGING = np.array([(5, 48, 97), (67, 147, 195), (247, 247, 247), (244, 165, 60), (140, 60, 0)], dtype=np.float64)
"""Blue below zero, white at zero, orange above: told apart with any colour vision."""

GREY = np.array([(8, 8, 8), (250, 250, 250)], dtype=np.float64)

CELL = 96
"""The least height and width of a picture in pixels; smaller ones are enlarged by whole factors, each pixel a square."""

LARGEST = 128
"""The greatest height and width of a picture; larger ones are reduced by whole factors, each pixel the mean of a block."""

MOST_ROWS = 8
MOST_COLUMNS = 12


@dataclass(frozen=True)
class Sheet:
    """All pictures of one name as one image.

    Attributes:
        name: A file name made of the content's hash.
        png: The image.
        columns: Titles from left to right.
        rows: Titles from top to bottom.
        width: In pixels.
        height: In pixels.
        caption: What to look for.
        signed: Whether any picture has positive and negative values.
        left_out: How many rows and columns there was no room for.
    """

    name: str
    png: bytes
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    width: int
    height: int
    caption: str
    signed: bool
    left_out: int


def sheet(pictures: Pictures) -> Sheet:
    """Colour the pictures, each by its own scale, and put them in rows and columns with clear gaps."""
    rows, columns = pictures.rows[:MOST_ROWS], pictures.columns[:MOST_COLUMNS]
    values = np.asarray(pictures.values[: len(rows), : len(columns)], dtype=np.float64)
    if values.ndim == 3:  # noqa: PLR2004  (maps over positions are drawn as strips)
        values = np.repeat(values[:, :, None, :], max(1, values.shape[-1] // 8), axis=2)
    values = _reduced(values, -(-max(values.shape[-2:]) // LARGEST))
    factor = max(1, -(-CELL // max(values.shape[-2:])))
    height, width = (size * factor for size in values.shape[-2:])
    gap = max(4, width // 16)
    canvas = np.zeros((len(rows) * (height + gap) - gap, len(columns) * (width + gap) - gap, 4), dtype=np.uint8)
    for row in range(len(rows)):
        for column in range(len(columns)):
            picture = _coloured(values[row, column], signed=pictures.signed[column])
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width, :3] = np.kron(
                picture, np.ones((factor, factor, 1), dtype=np.uint8)
            )
            canvas[top : top + height, left : left + width, 3] = 255
    png = _png(canvas)
    return Sheet(
        name=f"{hashlib.sha256(png).hexdigest()[:16]}.png",
        png=png,
        columns=columns,
        rows=rows,
        width=canvas.shape[1],
        height=canvas.shape[0],
        caption=pictures.caption,
        signed=any(pictures.signed),
        left_out=len(pictures.rows) - len(rows) + len(pictures.columns) - len(columns),
    )


def _reduced(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    rows, columns, height, width = values.shape
    if factor <= 1 or min(height, width) < factor:
        return values
    kept = values[..., : height // factor * factor, : width // factor * factor]
    blocks = kept.reshape(rows, columns, height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(3, 5)))


def _coloured(values: NDArray[np.float64], *, signed: bool) -> NDArray[np.uint8]:
    if signed:
        scale = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
        return _ramp((values / scale + 1) / 2, DIVERGING)
    low, high = float(values.min()), float(values.max())
    return _ramp((values - low) / ((high - low) or 1.0), GREY)


def _ramp(position: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.uint8]:
    scaled = np.clip(position, 0, 1) * (len(anchors) - 1)
    channels = [np.interp(scaled, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image: Any = Image.fromarray(pixels)
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
