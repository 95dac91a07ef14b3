import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from paligemma2.assets import MASK_CODEC_FOLDER
from paligemma2.checkpoint import mask_codec_files
from paligemma2.checkpoint.mask_codec_files import (
    CODEC_FILE,
    OFFICIAL_NAME,
    RECORD_FILE,
    MaskCodecRecord,
    check_mask_codec,
    fingerprint_of,
    load_mask_codec,
    record_mask_codec,
    recorded_mask_codec,
    save_mask_codec,
)
from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig


@pytest.fixture(scope="module")
def codec() -> MaskCodec:
    torch.manual_seed(0)
    return MaskCodec(MaskCodecConfig(embedding_size=5)).eval().requires_grad_(False)


def arrays_of(codec: MaskCodec) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in codec.state_dict().items()}


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


def same(first: MaskCodec, second: MaskCodec) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in first.state_dict().items())


# --- the official file's layout ---------------------------------------------------------------------------


def test_an_npz_with_the_official_names_is_loaded(codec: MaskCodec, tmp_path: Path) -> None:
    loaded = load_mask_codec(write(tmp_path / "mine.npz", arrays_of(codec)))
    assert same(loaded.codec, codec)
    assert loaded.codec.config == codec.config
    assert loaded.name == f"mine@{loaded.fingerprint[:8]}"


def test_the_state_of_its_training_may_stand_beside_it(codec: MaskCodec, tmp_path: Path) -> None:
    averages = {"_vq_vae._ema_w": np.ones((128, 5), np.float32), "_vq_vae._ema_cluster_size": np.ones(128)}
    assert same(load_mask_codec(write(tmp_path / "a.npz", arrays_of(codec) | averages)).codec, codec)


def test_only_the_file_with_the_known_digest_is_the_official_one(
    codec: MaskCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "vae-oid.npz", arrays_of(codec))
    assert load_mask_codec(path).name != OFFICIAL_NAME
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(mask_codec_files, "OFFICIAL_SHA256", digest)
    assert load_mask_codec(path).name == OFFICIAL_NAME


def test_arrays_of_wrong_names_and_shapes_are_all_named(codec: MaskCodec, tmp_path: Path) -> None:
    arrays = arrays_of(codec)
    del arrays["decoder.12.bias"]
    arrays["decoder.13.bias"] = np.zeros(1, np.float32)
    arrays["encoder.0.weight"] = np.zeros((16, 1, 3, 3), np.float32)
    with pytest.raises(CheckpointError) as caught:
        load_mask_codec(write(tmp_path / "a.npz", arrays))
    message = caught.value.message
    assert "1 missing (decoder.12.bias)" in message
    assert "1 unexpected (decoder.13.bias)" in message
    assert "encoder.0.weight: [16, 1, 3, 3], not [16, 1, 4, 4]" in message
    assert "vae-oid.npz" in caught.value.hint


@pytest.mark.parametrize("shape", [(64, 5), (128,), (128, 0), (128, 5, 1)])
def test_a_codebook_of_another_shape_is_refused(
    codec: MaskCodec, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    arrays = arrays_of(codec) | {"_vq_vae._embedding": np.zeros(shape, np.float32)}
    with pytest.raises(CheckpointError, match=r"_vq_vae\._embedding: \["):
        load_mask_codec(write(tmp_path / "a.npz", arrays))


def test_a_width_of_its_own_is_named_with_both_shapes(codec: MaskCodec, tmp_path: Path) -> None:
    arrays = arrays_of(codec) | {"encoder.10.weight": np.zeros((512, 128, 1, 1), np.float32)}
    with pytest.raises(CheckpointError, match=r"\[512, 128, 1, 1\], not \[5, 128, 1, 1\]"):
        load_mask_codec(write(tmp_path / "a.npz", arrays))


def test_integers_and_numbers_that_are_none_are_refused(codec: MaskCodec, tmp_path: Path) -> None:
    arrays = arrays_of(codec) | {
        "decoder.0.bias": np.zeros(128, np.int32),
        "decoder.12.bias": np.array([np.nan], np.float32),
    }
    with pytest.raises(
        CheckpointError, match=r"not floating point \(decoder.0.bias.*not finite \(decoder.12"
    ):
        load_mask_codec(write(tmp_path / "a.npz", arrays))


def test_pickles_are_never_read(codec: MaskCodec, tmp_path: Path) -> None:
    class Spy:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "touched",))

    arrays = arrays_of(codec) | {"decoder.12.bias": np.array([Spy()], dtype=object)}
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_mask_codec(write(tmp_path / "a.npz", arrays))
    with pytest.raises(CheckpointError, match=r"not a file of a mask codec"):
        load_mask_codec(write_text(tmp_path / "a.pth"))
    assert not (tmp_path / "touched").exists()


def write_text(path: Path) -> Path:
    path.write_text("no codec")
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_what_is_no_such_file_at_all_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read"):
        load_mask_codec(write_text(tmp_path / name))
    with pytest.raises(CheckpointError, match="there is no such mask codec"):
        load_mask_codec(tmp_path / f"absent-{name}")


def test_a_file_that_is_cut_short_or_changed_is_refused(codec: MaskCodec, tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", arrays_of(codec))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_mask_codec(path)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_mask_codec(path)


def test_the_zip_may_be_compressed(codec: MaskCodec, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays_of(codec))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    assert same(load_mask_codec(tmp_path / "a.npz").codec, codec)


# --- our own file -----------------------------------------------------------------------------------------


def test_a_saved_codec_comes_back_with_its_name(codec: MaskCodec, tmp_path: Path) -> None:
    save_mask_codec(tmp_path / CODEC_FILE, codec, "round")
    for source in (tmp_path, str(tmp_path), tmp_path / CODEC_FILE):
        loaded = load_mask_codec(source)
        assert loaded.name == "round"
        assert same(loaded.codec, codec)
    (tmp_path / "other").touch()
    assert (tmp_path / CODEC_FILE).stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(InputError, match="already exists"):
        save_mask_codec(tmp_path / CODEC_FILE, codec, "round")


def test_half_precision_halves_the_file_and_is_float32_in_memory(codec: MaskCodec, tmp_path: Path) -> None:
    save_mask_codec(tmp_path / "half.safetensors", codec, "half", dtype=torch.float16)
    save_mask_codec(tmp_path / "full.safetensors", codec, "full")
    half, full = (tmp_path / f"{name}.safetensors" for name in ("half", "full"))
    assert half.stat().st_size < 0.51 * full.stat().st_size
    loaded = load_mask_codec(half).codec
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    for name, tensor in codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())


def test_a_codec_without_a_name_is_called_after_its_file(codec: MaskCodec, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(codec.state_dict()), tmp_path / "plain.safetensors")
    assert load_mask_codec(tmp_path / "plain.safetensors").name.startswith("plain@")


def test_the_codec_of_the_package_is_small_and_is_the_one_that_was_scored() -> None:
    assert (MASK_CODEC_FOLDER / CODEC_FILE).stat().st_size <= 9_000_000
    loaded = load_mask_codec()
    record = json.loads((MASK_CODEC_FOLDER / "pretraining.json").read_text(encoding="utf-8"))
    assert (loaded.name, loaded.fingerprint) == (record["name"], record["fingerprint"])


# --- who it is --------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_numbers_and_not_of_the_file(codec: MaskCodec, tmp_path: Path) -> None:
    save_mask_codec(tmp_path / "a.safetensors", codec, "one")
    sources = [write(tmp_path / "a.npz", arrays_of(codec)), tmp_path / "a.safetensors"]
    prints = {load_mask_codec(source).fingerprint for source in sources}
    assert prints == {fingerprint_of(codec)}


@pytest.mark.parametrize("name", ["_vq_vae._embedding", "encoder.0.weight", "decoder.12.bias"])
def test_any_other_number_is_another_fingerprint(codec: MaskCodec, name: str) -> None:
    other = MaskCodec(codec.config)
    other.load_state_dict(codec.state_dict())
    assert fingerprint_of(other) == fingerprint_of(codec)
    changed: Tensor = other.state_dict()[name]
    changed.flatten()[0] += 1e-3
    assert fingerprint_of(other) != fingerprint_of(codec)


def test_a_record_comes_back(tmp_path: Path) -> None:
    assert recorded_mask_codec(tmp_path) is None
    record = MaskCodecRecord(name="round", fingerprint="ab" * 32)
    record_mask_codec(tmp_path, record)
    assert recorded_mask_codec(tmp_path) == record


@pytest.mark.parametrize("text", ["{}", '{"name": "a"}', '{"name": 3, "fingerprint": "x"}', "[", "7"])
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=RECORD_FILE):
        recorded_mask_codec(tmp_path)


def test_a_folder_takes_only_the_codec_that_it_records(codec: MaskCodec, tmp_path: Path) -> None:
    save_mask_codec(tmp_path / "mine.safetensors", codec, "mine")
    mine, default = load_mask_codec(tmp_path / "mine.safetensors"), load_mask_codec()
    record_mask_codec(tmp_path, mine.record)
    check_mask_codec(tmp_path, mine)
    with pytest.raises(CheckpointError, match=f"codec mine .*, not of {default.name}") as caught:
        check_mask_codec(tmp_path, default)
    assert "--mask-codec" in caught.value.hint


def test_a_codec_of_the_same_name_and_other_numbers_is_another(codec: MaskCodec, tmp_path: Path) -> None:
    record_mask_codec(tmp_path, MaskCodecRecord(name=load_mask_codec().name, fingerprint="0" * 64))
    with pytest.raises(CheckpointError, match="00000000"):
        check_mask_codec(tmp_path, load_mask_codec())


def test_a_folder_without_a_record_takes_only_the_official_codec(
    codec: MaskCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="those of the official codec") as caught:
        check_mask_codec(tmp_path, load_mask_codec())
    assert "`--mask-codec vae-oid.npz`" in caught.value.hint
    path = write(tmp_path / "vae-oid.npz", arrays_of(codec))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(mask_codec_files, "OFFICIAL_SHA256", digest)
    official = load_mask_codec(path)
    check_mask_codec(tmp_path, official)
    record_mask_codec(tmp_path, official.record)
    check_mask_codec(tmp_path, official)
    with pytest.raises(CheckpointError) as caught:
        check_mask_codec(tmp_path, load_mask_codec())
    assert "`--mask-codec vae-oid.npz`" in caught.value.hint
