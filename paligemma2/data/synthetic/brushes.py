"""Masks that the painters of both styles are made of: silhouette, stroke, stripes, speckle."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from paligemma2.data.synthetic.palette import RGB
from paligemma2.data.synthetic.scenes import Look
from paligemma2.data.synthetic.seeds import noise_generator
from paligemma2.data.synthetic.shapes import Points

Mask: TypeAlias = Image.Image
"""A one-channel picture; 255 paints."""

Layer: TypeAlias = tuple[Mask, RGB]


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """The small canvas of one object: `points` [points, 2] in its pixels, `side` the object's longer side.

    `inward` are the places of the points where the outline turns inwards.
    """

    width: int
    height: int
    points: Points
    side: float
    inward: tuple[int, ...]
    look: Look

    @cached_property
    def silhouette(self) -> Mask:
        """Everything inside the outline; all paint stays within it, so the box is always tight."""
        mask = Image.new("L", (self.width, self.height), 0)
        ImageDraw.Draw(mask).polygon(self.points.ravel().tolist(), fill=255)
        return mask

    def stroke(self, share: float, *, inset: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Mask:
        """A line along the inside of the outline, `share` of the object's side thick.

        `inset` shrinks the line towards the middle and `shift` moves it, both for a second, unsteady line.
        """
        middle = np.array([self.width / 2, self.height / 2])
        points = (self.points - middle) * inset + middle + np.array(shift) * self.side
        width = max(2.0, share * self.side)
        mask = Image.new("L", (self.width, self.height), 0)
        draw = ImageDraw.Draw(mask)
        draw.line([*points.ravel().tolist(), *points[:2].ravel().tolist()], fill=255, width=round(2 * width))
        # A wide line leaves a gap where the outline turns inwards, as in the valleys of a star.
        for x, y in points[list(self.inward)].tolist():
            draw.ellipse((x - width, y - width, x + width, y + width), fill=255)
        return ImageChops.multiply(mask, self.silhouette)

    def stripes(self, angle: float, *, share: float) -> Mask:
        """Parallel bars over the silhouette; `share` of each period is bar."""
        period = max(4.0, self.look.period * self.side)
        mask = Image.new("L", (self.width, self.height), 0)
        draw = ImageDraw.Draw(mask)
        radians, reach = math.radians(angle), math.hypot(self.width, self.height) / 2
        along, across = (
            (math.cos(radians) * reach, math.sin(radians) * reach),
            (-math.sin(radians), math.cos(radians)),
        )
        for step in range(-int(reach / period) - 1, int(reach / period) + 2):
            x = self.width / 2 + across[0] * step * period
            y = self.height / 2 + across[1] * step * period
            ends = (x - along[0], y - along[1], x + along[0], y + along[1])
            draw.line(ends, fill=255, width=max(2, round(period * share)))
        return ImageChops.multiply(mask, self.silhouette)

    def speckle(self, cells: int, *, low: int = 0, high: int = 256) -> Mask:
        """Soft random patches of `low`..`high`, about `cells` of them along each side."""
        values = noise_generator(self.look.seed).integers(low, high, (cells, cells), dtype=np.uint8)
        soft = Image.fromarray(values).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return ImageChops.multiply(soft, self.silhouette)
