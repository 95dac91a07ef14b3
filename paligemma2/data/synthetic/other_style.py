"""Painters of the split `test_other_style`, never used by another split."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from paligemma2.data.synthetic.brushes import Canvas, Layer
from paligemma2.data.synthetic.palette import BLACK, blend


def _sketchy(canvas: Canvas) -> list[Layer]:
    """Two strokes that do not quite meet, over a pale wash."""
    look = canvas.look
    return [
        (canvas.silhouette, look.second),
        (canvas.stroke(0.06 * look.thickness), look.main),
        (canvas.stroke(0.02, inset=0.78, shift=(0.02, -0.02)), look.main),
    ]


def _dotted(canvas: Canvas) -> list[Layer]:
    """Beads along the outline, close enough for the shape to be read."""
    closed = np.concatenate([canvas.points, canvas.points[:1]])
    lengths = np.hypot(*np.diff(closed, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(lengths)])
    radius = max(3.0, 0.055 * canvas.side * canvas.look.thickness)
    stops = np.linspace(0, travelled[-1], max(8, int(travelled[-1] / (2.6 * radius))), endpoint=False)
    xs, ys = (np.interp(stops, travelled, closed[:, axis]) for axis in (0, 1))
    mask = Image.new("L", (canvas.width, canvas.height), 0)
    draw = ImageDraw.Draw(mask)
    reach = 1.6 * radius  # half of a bead lies outside of the outline and is cut off
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return [(ImageChops.multiply(mask, canvas.silhouette), canvas.look.main)]


def _chalk(canvas: Canvas) -> list[Layer]:
    """A broad, broken line and a faint fill."""
    look = canvas.look
    line = ImageChops.multiply(canvas.stroke(0.13 * look.thickness), canvas.speckle(14, low=170))
    fill = canvas.speckle(10, low=30, high=150)
    return [(fill, look.main), (line, look.main)]


def _cross_hatched(canvas: Canvas) -> list[Layer]:
    look = canvas.look
    first = canvas.stripes(look.angle, share=0.30)
    second = canvas.stripes(look.angle + 70, share=0.30)
    return [
        (ImageChops.lighter(first, second), look.main),
        (canvas.stroke(0.05 * look.thickness), look.main),
    ]


def _faded(canvas: Canvas) -> list[Layer]:
    """A fill that gets darker towards the bottom."""
    ramp = Image.linear_gradient("L").resize((canvas.width, canvas.height))
    dark = blend(canvas.look.main, BLACK, 0.35)
    return [(canvas.silhouette, canvas.look.main), (ImageChops.multiply(ramp, canvas.silhouette), dark)]


OTHER_PAINTERS: Mapping[str, Callable[[Canvas], list[Layer]]] = {
    "sketchy": _sketchy,
    "dotted": _dotted,
    "chalk": _chalk,
    "cross_hatched": _cross_hatched,
    "faded": _faded,
}
