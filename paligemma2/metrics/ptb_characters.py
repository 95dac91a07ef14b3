"""Sets of characters of the Penn Treebank tokenizer: what counts as a letter, a digit, white space, a symbol.

The tokenizer knows Unicode 6.2 and sees units of UTF-16: nothing above U+FFFF is a letter or a symbol to it.
Letters of Unicode 3.2 come from `unicodedata`, which keeps that version for good; those that came later are
listed here, so that no newer version of Python changes a score. The lists were compared with the tokenizer
for each of the 65536 units.
"""

import functools
import unicodedata
from collections.abc import Mapping
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]

_LAST = 0xFFFF

# Letters that Unicode gained from 3.2 to 6.2 (gaps are closed over older letters).
_LATER_LETTERS = """
    0221-02BA 02C6-02CF 02EC 0370-0374 0376-0377 037B-037D 03CF 03F7-03FF 04CF-0527 0620-063F 06EE-06EF
    06FF 072D-072F 074D-077F 07CA-07EA 07F4-07F5 07FA 0800-0815 081A 0824 0828 0840-0858 08A0 08A2-08AC
    0904 0971-0977 0979-097F 09BD 09CE 0A8C 0AE1 0B35 0B71 0BB6 0BD0 0C3D 0C58-0C59 0CBD 0CF1-0CF2
    0D29-0D3A 0D3D 0D4E 0D7A-0D7F 0EDE-0EDF 0F6B-0F6C 0F8C 1022-1028 103F 105A-105D 1061 1065-1066
    106E-1070 1075-1081 108E 10C7 10CD 10F9-10FA 10FC-1247 1287 12AF 12CF 12EF-130F 131F-1347 1380-138F
    1677-167F 18AA 18B0-18F5 1900-191C 1950-196D 1970-1974 1980-19AB 19C1-19C7 1A00-1A16 1A20-1A54 1AA7
    1B05-1B33 1B45-1B4B 1B83-1BA0 1BAE-1BAF 1BBA-1BE5 1C00-1C23 1C4D-1C4F 1C5A-1C7D 1CE9-1CEC 1CEE-1CF1
    1CF5-1CF6 1D00-1DBF 1E9C-1EFF 2090-209C 2132 213C 214E 2183-2184 2C00-2C2E 2C30-2C5E 2C60-2CE4
    2CEB-2CEE 2CF2-2CF3 2D00-2D25 2D27 2D2D 2D30-2D67 2D6F 2D80-2D96 2DA0-2DA6 2DA8-2DAE 2DB0-2DB6
    2DB8-2DBE 2DC0-2DC6 2DC8-2DCE 2DD0-2DD6 2DD8-2DDE 2E2F 312D 31B8-31BA 9FA6-9FCC A4D0-A4FD A500-A60C
    A610-A61F A62A-A62B A640-A66E A67F-A697 A6A0-A6E5 A717-A71F A722-A788 A78B-A78E A790-A793 A7A0-A7AA
    A7F8-A801 A803-A805 A807-A80A A80C-A822 A840-A873 A882-A8B3 A8F2-A8F7 A8FB A90A-A925 A930-A946
    A960-A97C A984-A9B2 A9CF AA00-AA28 AA40-AA42 AA44-AA4B AA60-AA76 AA7A AA80-AAAF AAB1 AAB5-AAB6
    AAB9-AABD AAC0 AAC2 AADB-AADD AAE0-AAEA AAF2-AAF4 AB01-AB06 AB09-AB0E AB11-AB16 AB20-AB26 AB28-AB2E
    ABC0-ABE2 D7B0-D7C6 D7CB-D7FB FA2E-FA6D FA70-FAD9
"""

# Accents, vowel signs and other marks that stand in words (not those of every script), and the soft hyphen.
_MARKS = """
    00AD 02C2-0379 0384-0385 03F6 0483-0487 055A-055F 0591-05BD 05BF 05C1-05C2 05C4-05C5 05C7 0615-061A
    064B-065E 0670 06D6-06ED 06FD-06FE 070F-07B0 07EB-07F3 0900-0903 093C-094E 0951-0955 0962-0963
    0981-0983 09BC-09C4 09C7-09C8 09CB-09CD 09D7 09E2-09E3 0A01-0A03 0A3C 0A3E-0A4F 0A81-0A83 0ABC-0ACF
    0B82 0BBE-0BC2 0BC6-0BC8 0BCA-0BCD 0C01-0C03 0C3E-0C56 0D3E-0D44 0D46-0D48 0E31-0E3A 0E47-0E4E
    0EB1-0EBC 0EC8-0ECD
"""

# The digits of Unicode 6.2, and those of N'Ko.
_DIGITS = """
    0030-0039 0660-0669 06F0-06F9 07C0-07C9 0966-096F 09E6-09EF 0A66-0A6F 0AE6-0AEF 0B66-0B6F 0BE6-0BEF
    0C66-0C6F 0CE6-0CEF 0D66-0D6F 0E50-0E59 0ED0-0ED9 0F20-0F29 1040-1049 1090-1099 17E0-17E9 1810-1819
    1946-194F 19D0-19D9 1A80-1A89 1A90-1A99 1B50-1B59 1BB0-1BB9 1C40-1C49 1C50-1C59 A620-A629 A8D0-A8D9
    A900-A909 A9D0-A9D9 AA50-AA59 ABF0-ABF9 FF10-FF19
"""

# Characters that are a token of their own, besides those that a rule names.
_SYMBOLS = """
    0025-0026 002B 005C 005E 007C 007E 00A1 00A6-00A9 00AC 00AE-00B4 00B6-00BA 00BF 00D7 00F7 037E 0387
    0589 05BE 05C0 05C3 05C6 05F3-05F4 0600-0603 0606-060A 060C 0614 061B 061E-061F 066A 066D 06D4
    0700-070D 07F6-07F8 07FA 0964-0965 0E4F 1FBD 2016-2017 2020-2023 2030-2038 203B 203E-2042 2044
    207A-207F 208A-208E 2100-214F 2190-2BFF 3002 3012 30FB FF01-FF0F FF1A-FF20 FF3B-FF40 FF5B-FF65
"""

_SPACES = "0009 0020 00A0 2000-200A 3000"


def read_ranges(text: str) -> Ranges:
    """Ranges of code points written as hexadecimal numbers, "0041-005A 00AA"."""
    pairs = (part.partition("-") for part in text.split())
    return tuple((int(low, 16), int(high or low, 16)) for low, _, high in pairs)


def complement(ranges: Ranges) -> Ranges:
    """All units of UTF-16 that are in none of the ranges."""
    left, found = 0, []
    for low, high in sorted(ranges):
        if low > left:
            found.append((left, low - 1))
        left = max(left, high + 1)
    return (*found, (left, _LAST)) if left <= _LAST else tuple(found)


@functools.cache
def character_sets() -> Mapping[str, Ranges]:
    """The sets by the names that `ptb_rules` uses."""
    letters = _old_letters() + read_ranges(_LATER_LETTERS)
    return {
        "alphabetic": letters,
        "letter": letters + read_ranges(_MARKS),
        "digit": read_ranges(_DIGITS),
        "symbol": read_ranges(_SYMBOLS),
        "space": read_ranges(_SPACES),
    }


def _old_letters() -> Ranges:
    category = unicodedata.ucd_3_2_0.category
    letters = [unit for unit in range(_LAST + 1) if category(chr(unit)).startswith("L")]
    ranges: list[tuple[int, int]] = []
    for unit in letters:
        if ranges and ranges[-1][1] == unit - 1:
            ranges[-1] = (ranges[-1][0], unit)
        else:
            ranges.append((unit, unit))
    return tuple(ranges)
