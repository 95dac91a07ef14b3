from paligemma2.data.miniatures.words import COLOR_QUESTIONS, MORE_ON_THE_LEFT, NAMES

COCO_35 = "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt ro ru sv sw te th tr"
XM_36 = f"{COCO_35} uk vi zh quz"


def test_all_languages_of_the_data_sets_have_their_words():
    assert set(NAMES) == set(XM_36.split())
    assert set(COLOR_QUESTIONS) == {"en", "bn", "de", "id", "ko", "pt", "ru", "zh"}
    assert set(MORE_ON_THE_LEFT) == {"en", "id", "sw", "ta", "tr", "zh"}


def test_the_three_names_of_a_language_differ():
    assert all(len({*names}) == 3 and all(names) for names in NAMES.values())
