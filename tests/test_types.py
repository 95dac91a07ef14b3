import dataclasses
import subprocess
import sys

import pytest

from paligemma2.types import Box, Clip, Detection, Example


def test_a_box_in_pixels_scales_with_the_image() -> None:
    box = Box(y_min=0.25, x_min=0.5, y_max=0.75, x_max=1.0)
    assert box.pixels(height=100, width=200) == (25.0, 100.0, 75.0, 200.0)


def test_a_box_is_made_from_pixels() -> None:
    box = Box.from_pixels((25.0, 100.0, 75.0, 200.0), height=100, width=200)
    assert box == Box(y_min=0.25, x_min=0.5, y_max=0.75, x_max=1.0)


def test_values_that_travel_cannot_be_changed() -> None:
    detection = Detection(label="cat", box=Box(y_min=0, x_min=0, y_max=1, x_max=1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        detection.label = "dog"  # type: ignore[misc]


def test_a_clip_is_sixteen_frames_spread_over_the_whole_video() -> None:
    assert Clip("a.mp4") == Clip("a.mp4", num_frames=16, stride=None, start=0.0, end=None)
    assert len({Clip("a.mp4"), Clip("a.mp4"), Clip("a.mp4", stride=9)}) == 2


def test_an_example_needs_no_prefix_and_no_suffix() -> None:
    example = Example(images=("a.png",))
    assert (example.prefix, example.suffix) == ("", None)


def test_the_types_load_without_torch_numpy_and_pillow() -> None:
    code = "import sys, paligemma2.types; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
