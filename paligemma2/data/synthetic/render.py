"""Scenes as pixels.

Every object is painted on its own small canvas, finer than the picture, and reduced once.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from paligemma2.data.synthetic.backgrounds import draw_background
from paligemma2.data.synthetic.brushes import Canvas, Layer
from paligemma2.data.synthetic.other_style import OTHER_PAINTERS
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.scenes import Finish, Scene, SceneObject
from paligemma2.data.synthetic.seeds import noise_generator
from paligemma2.data.synthetic.shapes import inward_corners

_FINE = 3


def _filled(canvas: Canvas) -> list[Layer]:
    return [(canvas.silhouette, canvas.look.main)]


def _filled_and_outlined(canvas: Canvas) -> list[Layer]:
    look = canvas.look
    return [(canvas.silhouette, look.main), (canvas.stroke(0.05 * look.thickness), look.second)]


def _outline(canvas: Canvas) -> list[Layer]:
    # An open cross has thin arms: a thick line would close them.
    return [(canvas.stroke(0.10 * canvas.look.thickness), canvas.look.main)]


def _hatched(canvas: Canvas) -> list[Layer]:
    look = canvas.look
    return [
        (canvas.silhouette, look.second),
        (canvas.stripes(look.angle, share=0.55), look.main),
        (canvas.stroke(0.04 * look.thickness), look.main),
    ]


def _mottled(canvas: Canvas) -> list[Layer]:
    return [(canvas.silhouette, canvas.look.main), (canvas.speckle(5, high=150), canvas.look.second)]


_Painter: TypeAlias = Callable[[Canvas], list[Layer]]
_PAINTERS: Mapping[str, _Painter] = {
    "filled": _filled,
    "dark_outline": _filled_and_outlined,
    "light_outline": _filled_and_outlined,
    "outline": _outline,
    "hatched": _hatched,
    "mottled": _mottled,
    **OTHER_PAINTERS,
}


def draw_scene(scene: Scene, size: int) -> Pixels:
    """The scene as uint8 [size, size, 3]; the same scene looks alike in every size."""
    picture = draw_background(scene.background, size)
    for item in scene.objects:
        _paint(picture, item, size)
    return apply_finish(picture, scene.finish)


def _paint(picture: Image.Image, item: SceneObject, size: int) -> None:
    box = item.box
    left, top = math.floor(box.x_min * size) - 1, math.floor(box.y_min * size) - 1
    width, height = math.ceil(box.x_max * size) + 1 - left, math.ceil(box.y_max * size) + 1 - top
    canvas = Canvas(
        width=width * _FINE,
        height=height * _FINE,
        # Pillow counts from the middle of a pixel, fractions of the picture from its corner.
        points=(item.outline * size - np.array([left, top])) * _FINE - 0.5,
        side=max(box.x_max - box.x_min, box.y_max - box.y_min) * size * _FINE,
        inward=inward_corners(item.shape, len(item.outline)),
        look=item.look,
    )
    for mask, color in _PAINTERS[item.look.style](canvas):
        picture.paste(color, (left, top), mask.reduce(_FINE))


def apply_finish(picture: Image.Image, finish: Finish) -> Pixels:
    """The picture, blurred and made grainy, as uint8 [height, width, 3]."""
    if finish.blur:
        picture = picture.filter(ImageFilter.BoxBlur(finish.blur * picture.width))
    pixels: Pixels = np.asarray(picture, dtype=np.uint8)
    if not finish.noise:
        return pixels.copy()
    noise = noise_generator(finish.seed).integers(
        -finish.noise, finish.noise + 1, pixels.shape, dtype=np.int8
    )
    grainy: Pixels = np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return grainy


def draw_object_numbers(scene: Scene, size: int) -> npt.NDArray[np.uint8]:
    """Which object is on top at each pixel, uint8 [size, size]: 0 for none, i + 1 for `scene.objects[i]`.

    The inside of an outline belongs to its object, also where the background shows through.
    """
    numbers = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(numbers)
    for number, item in enumerate(scene.objects, start=1):
        draw.polygon((item.outline * size - 0.5).ravel().tolist(), fill=number)
    return np.asarray(numbers, dtype=np.uint8)
