import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.errors import CheckpointError, InputError
from paligemma2.processing.tokenizer import EXTRA_MARKERS, Tokenizer

CONTROL_TEXTS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<image>",
    "<loc0000>",
    "<loc1023>",
    "<seg000>",
    "<seg127>",
)
GEMMA_CONTROL_TEXTS = ("<start_of_turn>", "<end_of_turn>", "<mask>", "<2mass>", "[@BOS@]", "<unused7>")


def forbidden(tokenizer: Tokenizer) -> set[int]:
    """Every id that text of a user must not yield."""
    return {*range(4), *tokenizer.location_ids, *tokenizer.mask_ids, tokenizer.image_id}


@pytest.mark.golden
def test_ids_equal_the_recorded_ones(gemma, gemma_folder):
    for text, ids in json.loads((gemma_folder / "golden_ids.json").read_text()).items():
        assert gemma.encode(text, allow_special=True) == ids, text


@pytest.mark.golden
def test_a_gemma_vocabulary_gets_the_extra_tokens_at_their_exact_ids(gemma):
    assert gemma.location_ids == range(256000, 257024)
    assert gemma.mask_ids == range(257024, 257152)
    assert (gemma.image_id, gemma.pad_id, gemma.eos_id, gemma.bos_id, gemma.newline_ids) == (
        257152,
        0,
        1,
        2,
        (108,),
    )
    assert gemma.encode("".join(EXTRA_MARKERS), allow_special=True) == list(range(256000, 257153))


@pytest.mark.golden
@pytest.mark.parametrize("text", CONTROL_TEXTS + GEMMA_CONTROL_TEXTS)
def test_gemma_spells_control_tokens_that_a_user_types(gemma, text):
    marker = gemma.encode(text, allow_special=True)
    assert len(marker) == 1
    ids = gemma.encode(f"a {text} {text}{text}b")
    assert marker[0] not in ids
    assert gemma.decode(ids) == f"a {text} {text}{text}b"


@pytest.mark.golden
def test_harmless_whole_pieces_of_gemma_stay_whole(gemma):
    assert gemma.encode("detect cat\n\n")[-1] == 109
    assert len(gemma.encode("<table>")) == 1


@pytest.mark.golden
def test_gemma_streams_characters_whole(gemma):
    text = "a 🦩 flamingo \U000130c0 é"
    pieces = list(gemma.stream(gemma.encode(text)))
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.golden
def test_a_vocabulary_of_another_model_is_refused(config_for, gemma_folder):
    with pytest.raises(CheckpointError, match=r"<loc0000> has the id 256000, expected 255999"):
        Tokenizer.from_folder(gemma_folder, config_for(257151))


@settings(deadline=None)
@given(st.text(), st.sampled_from(CONTROL_TEXTS), st.text())
def test_user_text_never_yields_a_control_token(tiny, before, control, after):
    ids = tiny.encode(before + control + after)
    assert forbidden(tiny).isdisjoint(ids)
    assert tiny.decode(ids) == before + control + after


@settings(deadline=None, max_examples=300)
@given(st.text())
def test_decode_undoes_encode_for_any_text(tiny, text):
    assert tiny.decode(tiny.encode(text)) == text


@settings(deadline=None)
@given(st.lists(st.integers(-5, 2000)))
def test_the_stream_joins_to_the_decoded_text(tiny, ids):
    ids = [token_id % (tiny.image_id + 20) for token_id in ids]
    assert "".join(tiny.stream(ids)) == tiny.decode(ids)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=128, exclude_categories=["Cs"])))
def test_no_streamed_piece_ends_inside_a_character(tiny, text):
    assert all(piece in text for piece in tiny.stream(tiny.encode(text)))


def test_an_unfinished_character_ends_as_a_replacement_character(tiny):
    ids = tiny.encode("é")
    assert tiny.decode(ids[:1]) == "\ufffd"
    assert tiny.decode([*ids[:1], *tiny.encode("cat")]) == "\ufffdcat"


def test_locations_are_tokens_only_where_allowed(tiny):
    text = "<loc0012><loc1024> cat ; <seg127><eos>"
    ids = tiny.encode(text, allow_locations=True)
    assert ids[0] == tiny.location_ids[12]
    assert tiny.mask_ids[127] in ids
    assert not {tiny.eos_id, *tiny.location_ids[13:]} & set(ids)
    assert tiny.decode(ids) == text


def test_all_special_tokens_are_tokens_where_allowed(tiny):
    assert tiny.encode("<bos>cat<eos>", allow_special=True) == [2, *tiny.encode("cat"), 1]


def test_decode_drops_pad_bos_eos_and_image_by_id(tiny):
    assert (
        tiny.decode([0, tiny.image_id, 2, *tiny.encode(" cat"), tiny.location_ids[3], 1]) == " cat<loc0003>"
    )


def test_half_a_character_is_an_input_error(tiny):
    with pytest.raises(InputError, match=r"U\+D800.*position 1"):
        tiny.encode("a\ud800")


def test_a_pickled_tokenizer_still_spells_control_tokens(tiny):
    copy = pickle.loads(pickle.dumps(tiny))
    assert copy.encode("<eos><loc0001> cat") == tiny.encode("<eos><loc0001> cat")
    assert copy.decode(copy.encode("cat é")) == "cat é"


def test_a_folder_without_a_vocabulary_is_named(tiny, config_for, tmp_path):
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        Tokenizer.from_folder(tmp_path, config_for(tiny.image_id))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_damaged_vocabulary_file_is_named(tiny, config_for, tmp_path, name):
    (tmp_path / name).write_text("{")
    with pytest.raises(CheckpointError, match=name):
        Tokenizer.from_folder(tmp_path, config_for(tiny.image_id))


def test_a_file_with_bos_elsewhere_is_refused(tiny, config_for, tiny_json):
    content = json.loads(tiny_json)
    swapped = (
        json.dumps(content).replace("<bos>", "<tmp>").replace("<eos>", "<bos>").replace("<tmp>", "<eos>")
    )
    with pytest.raises(CheckpointError, match="<eos> has the id 2, expected 1"):
        Tokenizer.from_json(swapped, config_for(tiny.image_id))


def test_location_tokens_that_a_file_holds_only_in_its_vocabulary_are_found(tiny, config_for, tiny_json):
    content = json.loads(tiny_json)
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    tokenizer = Tokenizer.from_json(json.dumps(content), config_for(tiny.image_id))
    text = "<loc0001> cat<loc0002>"
    assert tokenizer.encode(text, allow_locations=True) == tiny.encode(text, allow_locations=True)
    assert tokenizer.encode(text) == tiny.encode(text)
