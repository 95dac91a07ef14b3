import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from paligemma2.checkpoint.big_vision_npz import infer_config, open_npz, write_npz
from paligemma2.checkpoint.layouts import EMBEDDING, big_vision_arrays
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.config import PRESETS, ModelConfig
from tests.checkpoint.small_checkpoints import our_logits, random_model, small_config

Arrays = dict[str, np.ndarray]
CONFIG = small_config()
NUMPY = {torch.bfloat16: ml_dtypes.bfloat16, torch.float16: np.float16, torch.float32: np.float32}


def arrays_of(config: ModelConfig = CONFIG, dtype: torch.dtype = torch.float32) -> Arrays:
    """Arrays as big_vision holds them, random, in the numpy dtype that it uses."""
    rng = np.random.default_rng(0)
    shapes = {array.name: array.shape for array in big_vision_arrays(config)}
    return {name: rng.normal(0, 0.1, shape).astype(NUMPY[dtype]) for name, shape in shapes.items()}


def write(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    state = random_model(CONFIG, dtype=dtype).state_dict()
    write_npz(path, CONFIG, dict.fromkeys(state, dtype), state.__getitem__)
    return state


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    write(tmp_path / "small.npz")
    return tmp_path / "small.npz"


@pytest.mark.parametrize("dtype", list(NUMPY))
@pytest.mark.parametrize("prefix", ["", "params/"])
def test_a_file_of_numpy_is_read_with_the_transforms_of_the_reference(
    tmp_path: Path, dtype: torch.dtype, prefix: str
) -> None:
    arrays = arrays_of(dtype=dtype)
    np.savez(tmp_path / "a.npz", **{prefix + name: array for name, array in arrays.items()})
    weights = open_npz(tmp_path / "a.npz", CONFIG)

    def check(name: str, expected: np.ndarray) -> None:
        tensor = weights.read(name)
        assert tensor.dtype is dtype
        np.testing.assert_array_equal(tensor.float().numpy(), expected.astype(np.float32))

    layer, vision = "language_model.layers.2", "vision_tower.encoder.layers.1"
    attention = "img/Transformer/encoderblock/MultiHeadDotProductAttention_0"
    check(f"{layer}.self_attn.v_proj.weight", _heads(arrays["llm/layers/attn/kv_einsum/w"][2, 1]))
    check(f"{layer}.self_attn.q_proj.weight", _heads(arrays["llm/layers/attn/q_einsum/w"][2]))
    check(f"{layer}.mlp.up_proj.weight", arrays["llm/layers/mlp/gating_einsum"][2, 1].T)
    check(f"{layer}.mlp.down_proj.weight", arrays["llm/layers/mlp/linear"][2].T)
    check(f"{layer}.post_feedforward_layernorm.weight", arrays["llm/layers/post_ffw_norm/scale"][2])
    out = arrays["llm/layers/attn/attn_vec_einsum/w"][2]
    check(f"{layer}.self_attn.o_proj.weight", out.transpose(2, 0, 1).reshape(64, -1))
    check(f"{vision}.self_attn.k_proj.weight", arrays[f"{attention}/key/kernel"][1].reshape(48, 48).T)
    check(f"{vision}.self_attn.k_proj.bias", arrays[f"{attention}/key/bias"][1].reshape(-1))
    check(f"{vision}.self_attn.out_proj.weight", arrays[f"{attention}/out/kernel"][1].reshape(48, 48).T)
    check(f"{vision}.layer_norm2.bias", arrays["img/Transformer/encoderblock/LayerNorm_1/bias"][1])
    patch = arrays["img/embedding/kernel"].transpose(3, 2, 0, 1)
    check("vision_tower.embeddings.patch_embedding.weight", patch)
    check("vision_tower.embeddings.position_embedding.weight", arrays["img/pos_embedding"][0])
    check("multi_modal_projector.linear.weight", arrays["img/head/kernel"].T)


def _heads(einsum: np.ndarray) -> np.ndarray:
    return einsum.transpose(0, 2, 1).reshape(-1, einsum.shape[1])


@pytest.mark.parametrize("dtype", list(NUMPY))
def test_what_is_written_reads_in_numpy_without_pickle(tmp_path: Path, dtype: torch.dtype) -> None:
    state = write(tmp_path / "a.npz", dtype)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        table = file["llm/embedder/input_embedding"]
        assert file["llm/layers/mlp/gating_einsum"].shape == (4, 2, 64, 96)
    assert table.dtype == (np.dtype("V2") if dtype is torch.bfloat16 else NUMPY[dtype])
    expected = state[EMBEDDING][: CONFIG.num_text_rows].float().numpy()
    np.testing.assert_array_equal(table.view(NUMPY[dtype]).astype(np.float32), expected)


def test_bfloat16_has_the_header_that_numpy_gives_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "numpy.npz", a=np.zeros((64,), ml_dtypes.bfloat16))
    write(tmp_path / "ours.npz", torch.bfloat16)
    with zipfile.ZipFile(tmp_path / "numpy.npz") as numpys, zipfile.ZipFile(tmp_path / "ours.npz") as ours:
        assert numpys.read("a.npy")[:128] == ours.read("llm/final_norm/scale.npy")[:128]


@pytest.mark.parametrize("dtype", list(NUMPY))
def test_every_tensor_and_every_text_row_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    state = write(tmp_path / "a.npz", dtype)
    weights = open_npz(tmp_path / "a.npz", CONFIG)
    assert weights.num_zero_rows == 8
    streamed = dict(weights.stream())
    assert set(streamed) == set(weights.tensors) == set(state)
    for name, tensor in state.items():
        expected = tensor.clone()
        if name == EMBEDDING:
            expected[CONFIG.num_text_rows :] = 0
        assert torch.equal(streamed[name], expected), name
        assert torch.equal(weights.read(name), expected), name
        assert (weights.tensors[name].shape, weights.tensors[name].dtype) == (expected.shape, dtype)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("turn", [np.ascontiguousarray, np.asfortranarray])
def test_compressed_and_column_major_files_read_the_same(
    tmp_path: Path, save: Callable[..., None], turn: Callable[[np.ndarray], np.ndarray]
) -> None:
    arrays = arrays_of()
    np.savez(tmp_path / "plain.npz", **arrays)
    save(tmp_path / "other.npz", **{name: turn(array) for name, array in arrays.items()})
    expected = dict(open_npz(tmp_path / "plain.npz", CONFIG).stream())
    other = open_npz(tmp_path / "other.npz", CONFIG)
    for name, tensor in other.stream():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(other.read(EMBEDDING), expected[EMBEDDING])
    name = "language_model.layers.3.mlp.up_proj.weight"
    assert torch.equal(other.read(name), expected[name])


def test_a_file_with_as_many_heads_for_keys_as_for_queries(tmp_path: Path) -> None:
    config = small_config(num_kv_heads=4)
    model = random_model(config)
    state = model.state_dict()
    write_npz(tmp_path / "a.npz", config, dict.fromkeys(state, torch.float32), state.__getitem__)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["llm/layers/attn/qkv_einsum/w"].shape == (4, 3, 4, 64, 24)
    loaded = load_model(tmp_path / "a.npz", config=config).model
    assert torch.equal(our_logits(loaded)[..., :500], our_logits(model)[..., :500])


def test_a_file_may_hold_the_filler_rows_too(tmp_path: Path) -> None:
    arrays = arrays_of()
    table = np.ones((CONFIG.text.vocab_size, 64), np.float32)
    np.savez(tmp_path / "a.npz", **(arrays | {"llm/embedder/input_embedding": table}))
    weights = open_npz(tmp_path / "a.npz", CONFIG)
    assert weights.num_zero_rows == 0
    assert torch.equal(weights.read(EMBEDDING), torch.ones(508, 64))


def test_the_zero_rows_are_reported_and_have_no_logits_of_their_own(npz: Path) -> None:
    loaded = load_model(npz, config=CONFIG)
    assert loaded.report.num_zero_rows == 8
    assert loaded.report.layout == "big_vision npz"
    assert torch.all(our_logits(loaded.model)[..., 500:] == 0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_released_sizes_are_told_by_their_shapes(name: str) -> None:
    shapes = {array.name: array.shape for array in big_vision_arrays(PRESETS[name])}
    assert infer_config(Path("a.npz"), shapes) == PRESETS[name]


def test_another_size_needs_the_config_json_beside(npz: Path) -> None:
    with pytest.raises(CheckpointError, match="64 wide with 4 image tokens is none of") as raised:
        open_npz(npz)
    assert "config.json" in raised.value.hint


Change = Callable[[Arrays], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("img/head/bias"), "1 missing (img/head/bias)"),
        (lambda a: a.update({"opt/count": np.zeros(2)}), "1 unexpected (opt/count)"),
        (lambda a: a.update({"img/head/bias": np.zeros(5)}), "(img/head/bias: [5], not [64])"),
        (lambda a: a.update({"img/head/bias": np.zeros(64, int)}), "not floating point (img/head/bias"),
        (lambda a: a.update({"img/head/bias": np.array([None] * 64)}), "1 damaged (img/head/bias: "),
        (lambda a: a.update({"img/head/bias": np.zeros(64, ">f4")}), "'>f4' are not read"),
        (lambda a: a.update({"img/head/bias": np.zeros(64, "V3")}), "'|V3' are not read"),
        (lambda a: a.update({"params/img/head/bias": np.zeros(64)}), "1 stored twice (img/head/bias)"),
    ],
)
def test_a_wrong_array_is_named(tmp_path: Path, change: Change, said: str) -> None:
    arrays = arrays_of()
    change(arrays)
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CheckpointError) as raised:
        load_model(tmp_path / "a.npz", config=CONFIG)
    assert said in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("kept", [0, 100, -1000])
def test_a_truncated_file_is_refused(npz: Path, kept: int) -> None:
    npz.write_bytes(npz.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_npz(npz, CONFIG)


def test_an_array_shorter_than_its_header_says_is_damaged(tmp_path: Path, npz: Path) -> None:
    with zipfile.ZipFile(npz) as whole, zipfile.ZipFile(tmp_path / "cut.npz", "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: -4 if "head/bias" in name else None])
    with pytest.raises(CheckpointError, match=r"1 damaged \(img/head/bias: 252 bytes instead of 256\)"):
        open_npz(tmp_path / "cut.npz", CONFIG)


def test_a_flipped_bit_is_found_while_loading(npz: Path) -> None:
    data = bytearray(npz.read_bytes())
    data[len(data) // 2] ^= 1
    npz.write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC"):
        load_model(npz, config=CONFIG)


def test_a_dtype_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    state = random_model(CONFIG).state_dict()
    with pytest.raises(InputError, match="cannot hold"):
        write_npz(tmp_path / "a.npz", CONFIG, dict.fromkeys(state, torch.float8_e5m2), state.__getitem__)
