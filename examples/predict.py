"""Ask the small model about a picture: `python examples/predict.py [PICTURE]`."""

import sys

import paligemma2
from paligemma2.assets import PICTURES_FOLDER

picture = sys.argv[1] if len(sys.argv) > 1 else PICTURES_FOLDER / "shapes.png"
model = paligemma2.load("tiny")
print(model.caption(picture))
print(model.answer(picture, "how many objects are there?"))
for text in model.stream(picture, "answer en what color is the star?"):
    print(text, end="")
print()
