import torch

from paligemma2 import load
from paligemma2.assets import TINY_FOLDER
from paligemma2.jobs.data_make import DataMakeConfig, run
from paligemma2.jobs.miniature_lessons import Lesson
from paligemma2.jobs.miniature_transfer import save_random_model, teach


def weights(folder):
    return load(folder, dtype="float32", for_training=True).model.state_dict()


def test_random_weights_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_random_model("tiny", tmp_path / name, seed=seed)
    one, same, other, own = (weights(each) for each in (*(tmp_path / name for name in "abc"), TINY_FOLDER))
    name = "language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])
    assert one[name].shape == own[name].shape


def test_a_lesson_changes_the_weights(tmp_path):
    data = tmp_path / "data"
    run(DataMakeConfig(tasks=("tallyqa",), output=data, examples=3))
    teach("tiny", "tallyqa", data, tmp_path / "new", Lesson(steps=1, batch_size=2), seed=0)
    before, after = weights(TINY_FOLDER), weights(tmp_path / "new")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert load(tmp_path / "new").config.text.final_cap is None
