import pytest

from paligemma2.errors import InputError
from paligemma2.inference.settings import check_decoding
from paligemma2.types import Decoding


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"method": "best"}, "method is 'best'"),
        ({"method": "sample", "temperature": 0.0}, "temperature is 0.0"),
        ({"method": "sample", "temperature": float("nan")}, "temperature is nan"),
        ({"method": "sample", "top_k": 0}, "top_k is 0"),
        ({"top_k": 3}, "top_k is 3, which the method 'greedy' does not use"),
        ({"method": "sample", "top_p": 0.0}, "top_p is 0.0"),
        ({"method": "sample", "top_p": 1.5}, "top_p is 1.5"),
        ({"method": "beam", "beams": 0}, "beams is 0"),
        ({"method": "beam", "length_penalty": -1.0}, "length_penalty is -1.0"),
        ({"method": "beam", "beam_rule": "bv"}, "beam_rule is 'bv'"),
        ({"method": "beam", "beam_rule": "big_vision", "length_penalty": 1.0}, "length_penalty is 1.0"),
        ({"beam_rule": "big_vision"}, "beam_rule is 'big_vision', which the method 'greedy' does not use"),
        ({"best_of": 2}, "best_of is 2, which the method 'greedy' does not use"),
        ({"method": "sample", "best_of": 0}, "best_of is 0"),
        ({"top_log_probs": -1}, "top_log_probs is -1"),
        ({"temperature": 0.5}, "temperature is 0.5, which the method 'greedy' does not use"),
        ({"method": "beam", "seed": 4}, "seed is 4, which the method 'beam' does not use"),
        ({"method": "sample", "beams": 2}, "beams is 2, which the method 'sample' does not use"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, match):
    with pytest.raises(InputError, match=match) as raised:
        check_decoding(Decoding(**setting))
    assert raised.value.hint


def test_stop_texts_and_the_best_of_several_exclude_each_other():
    with pytest.raises(InputError, match=r"stop is \('a',\) with best_of=2"):
        check_decoding(Decoding(method="sample", best_of=2, stop=("a",)))


def test_settings_that_belong_together_pass():
    check_decoding(Decoding())
    check_decoding(Decoding(method="sample", top_k=3, top_p=0.5, temperature=2.0, seed=4, best_of=2))
    check_decoding(Decoding(method="beam", beams=2, beam_rule="big_vision"))
    check_decoding(Decoding(method="beam", length_penalty=1.0))
    check_decoding(Decoding(stop=("a",), top_log_probs=2))
