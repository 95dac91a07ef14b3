import io
import sys

import pytest
import sentencepiece

from paligemma2.errors import MissingExtra
from paligemma2.processing.tokenizer import EXTRA_MARKERS, Tokenizer
from paligemma2.processing.vocabulary import SentencePieceVocabulary

TEXT = "a cat ; two dogs sit on the mat\ncaption en\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small sentencepiece vocabulary set up as Gemma's."""
    path = tmp_path_factory.mktemp("bigvision")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            ["a cat sits on the mat and two dogs sit on the cat", "caption en detect cat"] * 20
        ),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        hard_vocab_limit=False,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=["<start_of_turn>", "\n", "\n\n"],
        num_threads=1,
        minloglevel=3,
    )
    (path / "tokenizer.model").write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def tokenizer(config_for, folder):
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
    return Tokenizer.from_folder(folder, config_for(size + len(EXTRA_MARKERS) - 1))


def test_extra_tokens_stand_behind_the_sentencepiece_vocabulary(tokenizer):
    ids = tokenizer.encode("".join(EXTRA_MARKERS), allow_special=True)
    assert ids == list(range(tokenizer.location_ids[0], tokenizer.image_id + 1))


@pytest.mark.parametrize("text", [TEXT, "  é 🦩\0 x", "<", "", "\n\n"])
def test_sentencepiece_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["<pad>", "<eos>", "<bos>", "<image>", "<loc0000>", "<seg127>", "<start_of_turn>"]
)
def test_sentencepiece_spells_control_tokens_that_a_user_types(tokenizer, text):
    (marker,) = tokenizer.encode(text, allow_special=True)
    ids = tokenizer.encode(f"a {text}{text} b")
    assert marker not in ids
    assert tokenizer.decode(ids) == f"a {text}{text} b"


def test_location_tokens_decode_to_their_text(tokenizer):
    text = " cat ; <loc0001><seg002> cat"
    assert tokenizer.decode(tokenizer.encode(text, allow_locations=True)) == text


def test_the_newline_is_one_id(tokenizer):
    assert len(tokenizer.newline_ids) == 1


def test_an_absent_sentencepiece_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtra, match="bigvision"):
        SentencePieceVocabulary(folder / "tokenizer.model", extra_markers=EXTRA_MARKERS)
