"""The few words of the procedural world that miniatures have in many languages."""

from collections.abc import Mapping

NAMES: Mapping[str, tuple[str, str, str]] = {
    "ar": ("دائرة", "نجمة", "قلب"),
    "bn": ("বৃত্ত", "তারা", "হৃদয়"),
    "cs": ("kruh", "hvězda", "srdce"),
    "da": ("cirkel", "stjerne", "hjerte"),
    "de": ("Kreis", "Stern", "Herz"),
    "el": ("κύκλος", "αστέρι", "καρδιά"),
    "en": ("circle", "star", "heart"),
    "es": ("círculo", "estrella", "corazón"),
    "fa": ("دایره", "ستاره", "قلب"),
    "fi": ("ympyrä", "tähti", "sydän"),
    "fil": ("bilog", "bituin", "puso"),
    "fr": ("cercle", "étoile", "cœur"),
    "he": ("עיגול", "כוכב", "לב"),
    "hi": ("वृत्त", "तारा", "दिल"),
    "hr": ("krug", "zvijezda", "srce"),
    "hu": ("kör", "csillag", "szív"),
    "id": ("lingkaran", "bintang", "hati"),
    "it": ("cerchio", "stella", "cuore"),
    "ja": ("円", "星", "ハート"),
    "ko": ("원", "별", "하트"),
    "mi": ("porohita", "whetū", "ngākau"),
    "nl": ("cirkel", "ster", "hart"),
    "no": ("sirkel", "stjerne", "hjerte"),
    "pl": ("koło", "gwiazda", "serce"),
    "pt": ("círculo", "estrela", "coração"),
    "quz": ("muyu", "quyllur", "sunqu"),
    "ro": ("cerc", "stea", "inimă"),
    "ru": ("круг", "звезда", "сердце"),
    "sv": ("cirkel", "stjärna", "hjärta"),
    "sw": ("duara", "nyota", "moyo"),
    "te": ("వృత్తం", "నక్షత్రం", "హృదయం"),
    "th": ("วงกลม", "ดาว", "หัวใจ"),
    "tr": ("daire", "yıldız", "kalp"),
    "uk": ("коло", "зірка", "серце"),
    "vi": ("hình tròn", "ngôi sao", "trái tim"),
    "zh": ("圆", "星", "心"),
}
"""A circle, a star and a heart in the languages of COCO-35L and Crossmodal-3600."""

COLOR_QUESTIONS: Mapping[str, str] = {
    "en": "what color is the object?",
    "bn": "বস্তুটির রং কী?",
    "de": "welche Farbe hat das Objekt?",
    "id": "apa warna benda itu?",
    "ko": "물체는 무슨 색인가요?",
    "pt": "qual é a cor do objeto?",
    "ru": "какого цвета предмет?",
    "zh": "物体是什么颜色的？",
}
"""In the languages of xGQA."""

MORE_ON_THE_LEFT: Mapping[str, str] = {
    "en": "the left picture has more objects than the right picture",
    "id": "gambar kiri memiliki lebih banyak benda daripada gambar kanan",
    "sw": "picha ya kushoto ina vitu vingi kuliko picha ya kulia",
    "ta": "இடது படத்தில் வலது படத்தை விட அதிக பொருட்கள் உள்ளன",
    "tr": "soldaki resimde sağdakinden daha çok nesne var",
    "zh": "左图中的物体比右图多",
}
"""A statement about two pictures, in the languages of MaRVL."""
