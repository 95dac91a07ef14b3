"""Find objects and draw their boxes: `python examples/detect.py OUTPUT.png [PICTURE]`."""

import sys

from PIL import Image

import paligemma2
from paligemma2.assets import PICTURES_FOLDER
from paligemma2.drawing.boxes import draw_detections

picture = Image.open(sys.argv[2] if len(sys.argv) > 2 else PICTURES_FOLDER / "shapes.png").convert("RGB")
found = paligemma2.load("tiny").detect(picture, "red circle", "green star")
for detection in found:
    y_min, x_min, y_max, x_max = detection.box.pixels(picture.height, picture.width)
    print(f"{detection.label}: left {x_min:.0f}, top {y_min:.0f}, right {x_max:.0f}, bottom {y_max:.0f}")
draw_detections(picture, found).save(sys.argv[1])
