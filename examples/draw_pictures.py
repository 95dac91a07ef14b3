"""Draw the three pictures of the demo. Nothing here is shared with the world that the model was trained on.

python examples/draw_pictures.py FOLDER
"""

import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 336
FINE = 4
Point = tuple[float, float]


def new_picture(color: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture, four times as fine as it will be."""
    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), color)
    return picture, ImageDraw.Draw(picture)


def finished(picture: Image.Image) -> Image.Image:
    """The picture in its own size."""
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def scaled(points: list[Point]) -> list[Point]:
    """Points given in pixels of the small picture, in those of the fine one."""
    return [(x * FINE, y * FINE) for x, y in points]


def star_points(middle: Point, radius: float) -> list[Point]:
    """The ten corners of a star."""
    corners = []
    for i in range(10):
        reach, angle = radius * (1.0 if i % 2 == 0 else 0.4), math.pi * (i / 5 - 0.5)
        corners.append((middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle)))
    return corners


def draw_shapes() -> Image.Image:
    """Three paper cut-outs with soft shadows on a table."""
    picture, _ = new_picture("#efe6d8")
    circle = [(75 + 47 * math.cos(math.radians(a)), 100 + 47 * math.sin(math.radians(a))) for a in range(360)]
    square = [(118.0, 196.0), (214.0, 189.0), (221.0, 285.0), (125.0, 292.0)]
    star = star_points((265, 104), 58)
    for points, color in ((circle, "#d8232a"), (square, "#1d56c4"), (star, "#1f9440")):
        shadow = Image.new("L", picture.size, 0)
        ImageDraw.Draw(shadow).polygon(scaled([(x + 4, y + 6) for x, y in points]), fill=90)
        picture.paste("#6b5a44", (0, 0), shadow.filter(ImageFilter.BoxBlur(4 * FINE)))
        ImageDraw.Draw(picture).polygon(scaled(points), fill=color)
    return finished(picture)


def draw_sign(word: str = "CAMP") -> Image.Image:
    """A painted board on a wall with one word on it."""
    picture, draw = new_picture("#b9c6cf")
    board = tuple(value * FINE for value in (14, 92, 322, 244))
    draw.rounded_rectangle(board, 60, fill="#fbf7e9")
    font = ImageFont.load_default(88 * FINE)
    draw.text((SIDE * FINE / 2, 170 * FINE), word, font=font, fill="#17324a", anchor="mm", stroke_width=5)
    return finished(picture)


def stroke(draw: ImageDraw.ImageDraw, points: list[Point], color: str, rng: random.Random) -> None:
    """A closed line as a hand draws it with a mouse: round pen, steps that shake, ends that overshoot."""
    path = []
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        steps = max(1, round(math.dist((x0, y0), (x1, y1)) / 15))
        path += [(x0 + (x1 - x0) * t / steps, y0 + (y1 - y0) * t / steps) for t in range(steps)]
    path.append(path[0])
    shaken = [(x + rng.gauss(0, 1.3), y + rng.gauss(0, 1.3)) for x, y in path]
    draw.line(scaled(shaken), fill=color, width=9 * FINE, joint="curve")
    for x, y in scaled(shaken):
        draw.ellipse((x - 4.4 * FINE, y - 4.4 * FINE, x + 4.4 * FINE, y + 4.4 * FINE), fill=color)


def draw_freehand() -> Image.Image:
    """A triangle and a heart drawn with a shaking mouse and filled with the bucket, on white."""
    picture, draw = new_picture("white")
    rng = random.Random(4)
    triangle: list[Point] = [(92, 62), (160, 178), (28, 184)]
    heart = []
    for i in range(20):
        t = math.tau * i / 20
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        heart.append((238 + 4.0 * 16 * math.sin(t) ** 3, 212 - 4.0 * y))
    for points, color in ((triangle, "#ffa500"), (heart, "#800080")):
        draw.polygon(scaled([(x + rng.gauss(0, 1), y + rng.gauss(0, 1)) for x, y in points]), fill=color)
        stroke(draw, points, color, rng)
    return finished(picture)


def main(folder: Path) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (("shapes", draw_shapes()), ("sign", draw_sign()), ("freehand", draw_freehand())):
        picture.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
