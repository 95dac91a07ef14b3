import random
import string
from collections import Counter

from paligemma2.data.synthetic.spelling import say_row


def test_the_answer_is_the_text_to_say():
    for seed in range(200):
        row = say_row(random.Random(seed))
        assert row.prefix == f"say {row.suffix}"
        assert row.suffix == row.suffix.strip() != ""
        assert 1 <= len(row.suffix.split()) <= 2


def test_every_letter_and_digit_is_written_sooner_or_later():
    rng = random.Random(0)
    seen = Counter(sign for _ in range(3000) for sign in say_row(rng).suffix)
    assert all(seen[sign] > 30 for sign in string.ascii_letters + string.digits)
