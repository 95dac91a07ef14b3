from pathlib import Path

import pytest

from paligemma2.errors import InputError
from paligemma2.jobs.predict_files import find_files, is_video
from tests.small_model import save_picture


def test_folders_are_walked_for_pictures_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden/d.png", "._a.png"):
        save_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "page.pdf").write_text("x")
    (tmp_path / "folder.png").mkdir()
    inside = [tmp_path / name for name in ("a.jpg", "b.PNG", "sub/c.webp")]
    assert find_files([tmp_path]) == tuple(inside)
    assert find_files([tmp_path / "sub", Path("nowhere.png"), tmp_path / "a.jpg"]) == (
        inside[2],
        Path("nowhere.png"),
        inside[0],
    )


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no picture in this folder"):
        find_files([tmp_path])


def test_folders_are_walked_for_videos_where_these_are_wanted(tmp_path):
    for name in ("b.MP4", "a.webm", "sub/c.mov", ".hidden/d.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    save_picture(tmp_path / "a.jpg")
    inside = [tmp_path / name for name in ("a.webm", "b.MP4", "sub/c.mov")]
    assert find_files([tmp_path, Path("nowhere.gif")], videos=True) == (*inside, Path("nowhere.gif"))
    assert find_files([tmp_path]) == (tmp_path / "a.jpg",)
    assert all(map(is_video, inside))
    assert not is_video(tmp_path / "a.jpg")


def test_a_folder_of_the_other_kind_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    with pytest.raises(InputError, match="no picture in this folder") as caught:
        find_files([tmp_path])
    assert "--frames" in caught.value.hint
    (tmp_path / "a.mp4").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="no video in this folder"):
        find_files([tmp_path], videos=True)
