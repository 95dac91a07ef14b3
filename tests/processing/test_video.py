import contextlib
import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paligemma2.errors import ImageError, InputError, MissingExtra
from paligemma2.processing import video
from paligemma2.processing.image import VIDEO_FRAME, image_to_array
from paligemma2.processing.video import clip_size, frame_indices, read_clip
from paligemma2.types import Clip
from tests.small_video import STEP, frame_numbers, save_clip


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> Path:
    """20 frames, ten a second."""
    return save_clip(tmp_path_factory.mktemp("video") / "clip.mp4")


def numbers(source, **settings):
    return frame_numbers(read_clip(Clip(source, **settings), 28))


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 28, 143, 144, 145, 500])
@pytest.mark.parametrize(("num_frames", "stride"), [(16, 9), (16, 7), (16, 30), (8, 26), (1, 1), (5, 3)])
def test_frames_at_a_stride_are_those_of_the_reference(length, num_frames, stride):
    """Every stride-th frame, at most num_frames of them, tiled num_frames times and cut."""
    sampled = np.arange(length)[::stride][:num_frames]
    expected = np.tile(sampled, num_frames)[:num_frames]
    assert frame_indices(length, num_frames, stride) == tuple(expected.tolist())


@pytest.mark.parametrize("length", [1, 3, 16, 17, 1000])
def test_frames_that_are_spread_are_the_middles_of_equal_parts(length):
    middles = (np.arange(16) + 0.5) * length / 16
    assert frame_indices(length, 16, None) == tuple(np.floor(middles).astype(int).tolist())


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "ts", "mpg"])
@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_the_right_frames_come_out_of_every_format(tmp_path, ending, codec):
    path = save_clip(tmp_path / f"clip.{ending}", codec=codec)
    assert numbers(path, num_frames=4, stride=6) == [0, 6, 12, 18]
    assert numbers(path, num_frames=4) == [2, 7, 12, 17]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_frames_that_are_stored_out_of_order_come_out_in_the_order_shown(tmp_path, ending):
    path = save_clip(tmp_path / f"clip.{ending}", codec="libx264")
    assert numbers(path, num_frames=20, stride=1) == list(range(20))
    assert numbers(path, num_frames=3, stride=1, start=1.05, end=1.6) == [11, 12, 13]


def test_path_string_and_bytes_are_the_same(clip_file):
    for source in (clip_file, str(clip_file), clip_file.read_bytes()):
        assert numbers(source, num_frames=3, stride=2) == [0, 2, 4]


def test_a_short_clip_starts_again_with_the_same_objects(clip_file):
    frames = read_clip(Clip(clip_file, num_frames=7, stride=7), 28)
    assert frame_numbers(frames) == [0, 7, 14, 0, 7, 14, 0]
    assert [id(frame) for frame in frames[:3]] == [id(frame) for frame in frames[3:6]]
    assert numbers(clip_file, num_frames=40)[:6] == [0, 0, 1, 1, 2, 2]


def test_a_part_of_a_video_is_what_is_shown_in_its_time(clip_file):
    assert numbers(clip_file, num_frames=4, stride=1, start=0.5, end=0.7) == [5, 6, 5, 6]
    assert numbers(clip_file, num_frames=3, start=1.4) == [15, 17, 19]
    assert numbers(clip_file, num_frames=3, end=0.3) == [0, 1, 2]


def test_frames_of_uneven_length_are_counted_one_by_one_and_cut_by_their_times(tmp_path):
    path = save_clip(tmp_path / "clip.mp4", 6, times=[0, 1, 2, 10, 11, 30])
    assert numbers(path, num_frames=3, stride=2) == [0, 2, 4]
    assert numbers(path, num_frames=3) == [1, 3, 5]
    assert numbers(path, num_frames=3, stride=1, start=0.2, end=1.1) == [2, 3, 2]


def test_a_part_far_inside_is_found_by_the_index_of_the_file(tmp_path, monkeypatch):
    path = save_clip(tmp_path / "clip.mp4", 31, codec="mpeg2video")
    decoded = []
    seconds = video._Video.seconds
    monkeypatch.setattr(
        video._Video, "seconds", lambda each, timed: decoded.append(timed) or seconds(each, timed)
    )
    assert numbers(path, num_frames=2, stride=1, start=2.8) == [28, 29]
    assert len(decoded) < 10


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))])
def test_frames_are_turned_upright(tmp_path, rotation, corner):
    path = save_clip(tmp_path / "clip.mp4", 2, rotation=rotation, size=(96, 48), mark=True)
    clip = Clip(path, num_frames=1, stride=1)
    assert clip_size(clip) == ((96, 48) if rotation in (90, -90) else (48, 96))
    quarters = read_clip(clip, 28)[0][0].reshape(2, 14, 2, 14).mean(axis=(1, 3))
    assert tuple(np.argwhere(quarters > 0.8)[0].tolist()) == corner
    assert (quarters > 0.8).sum() == 1


def test_frames_are_resized_as_such(clip_file):
    import av

    with av.open(str(clip_file)) as container:
        shown = [frame.to_image() for frame in container.decode(video=0)]
    for number, frame in zip((0, 9, 18), read_clip(Clip(clip_file, num_frames=3, stride=9), 42), strict=True):
        np.testing.assert_array_equal(frame, image_to_array(shown[number], 42, VIDEO_FRAME))
        assert (frame.dtype, frame.shape) == (np.float32, (3, 42, 42))


def test_memory_does_not_grow_with_the_size_of_the_video(tmp_path):
    path = save_clip(tmp_path / "clip.mp4", 31, size=(1280, 720))
    tracemalloc.start()
    read_clip(Clip(path, num_frames=16, stride=1), 28)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_frame = 1280 * 720 * 3
    assert peak < 6 * one_frame  # all that are asked for would be 16, all there are 31


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0"),
        ({"stride": 0}, "stride is 0"),
        ({"start": -1.0}, "starts at -1.0 s"),
        ({"start": 2.0, "end": 2.0}, "ends at 2.0 s"),
        ({"start": float("nan")}, "starts at nan s"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(clip_file, settings, message):
    for read in (clip_size, lambda clip: read_clip(clip, 28)):
        with pytest.raises(InputError, match=message) as caught:
            read(Clip(clip_file, **settings))
        assert caught.value.hint


def picture(path):
    Image.new("RGB", (8, 8)).save(path, "PNG")


def sound(path):
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut_short(path):
    whole = save_clip(path.with_name("whole.mp4"), options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.write_bytes(b""), "not a readable video"),
        (lambda path: path.write_bytes(b"nonsense" * 99), "not a readable video"),
        (picture, "not a readable video"),
        (sound, "no pictures"),
        (cut_short, "frames are there"),
    ],
    ids=["missing", "folder", "empty", "text", "picture", "sound", "cut short"],
)
def test_what_is_no_video_is_refused_by_name(tmp_path, make, message):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(ImageError, match=f"clip.mp4: .*{message}") as caught:
        read_clip(Clip(path, num_frames=16, stride=9), 28)
    assert caught.value.hint


@pytest.mark.parametrize("source", ["a\0b", "x" * 5000])
def test_strange_paths_are_refused(source):
    with pytest.raises(ImageError):
        read_clip(Clip(source), 28)


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXTINF:2,\n{video}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{video}'\n", "hello\n"],
    ids=["playlist", "list of files", "text"],
)
@pytest.mark.parametrize("ending", ["m3u8", "ffconcat", "txt"])
def test_a_file_that_leads_to_others_is_refused(tmp_path, text, ending):
    inner = save_clip(tmp_path / "inner.ts")
    outer = tmp_path / f"outer.{ending}"
    outer.write_text(text.format(video=inner))
    with pytest.raises(ImageError, match="not a readable video"):
        clip_size(Clip(outer))


def test_a_time_without_frames_is_refused(clip_file):
    with pytest.raises(ImageError, match=r"no frame between 9.0 s and its end"):
        read_clip(Clip(clip_file, stride=1, start=9.0), 28)
    with pytest.raises(ImageError, match=r"no frame between 9.0 s and 10.0 s"):
        read_clip(Clip(clip_file, start=9.0, end=10.0), 28)
    with pytest.raises(ImageError, match=r"no frame between"):
        clip_size(Clip(clip_file, start=9.0))


def test_frames_with_too_many_pixels_are_refused_before_they_are_decoded(clip_file, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match="64 × 48 = 3072 pixels, the limit is 3071"):
        clip_size(Clip(clip_file))


@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_give_frames_or_an_image_error(clip_file, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(clip_file.read_bytes())
    for place in rng.integers(0, len(data), 10):
        data[place] = rng.integers(0, 256)
    with contextlib.suppress(ImageError):
        frames = read_clip(Clip(bytes(data), num_frames=3), 28)
        assert [frame.shape for frame in frames] == [(3, 28, 28)] * 3


def test_pyav_that_is_missing_is_named_with_its_extra(clip_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"paligemma2\[video\]"):
        read_clip(Clip(clip_file), 28)


def test_an_animated_gif_is_a_video(tmp_path):
    frames = [Image.new("RGB", (32, 32), (number * STEP,) * 3) for number in range(6)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    assert numbers(file.getvalue(), num_frames=3, stride=2) == [0, 2, 4]
