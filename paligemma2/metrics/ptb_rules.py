"""The rules of the Penn Treebank tokenizer that caption scores use, as patterns of `ptb_automaton`.

The language is that of Stanford CoreNLP 3.4.1's `PTBTokenizer` (August 2014), the version inside
coco-caption, less what cannot be seen in a caption's tokens once punctuation is removed: whether a period
also ends a sentence, and which way a quotation mark faces. The automaton that the rules make was compared
with that of the original, state by state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Action: TypeAlias = Literal[
    "keep",
    "skip",
    "new line",
    "without soft hyphens",
    "plain ampersands",
    "solid",
    "plain quotes",
    "plain currency",
    "plain fraction",
    "named bracket",
    "named parentheses",
    "less than",
    "greater than",
    "dash",
]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A kind of token.

    Attributes:
        pattern: what it looks like, together with `ahead`.
        ahead: what must follow and is not part of the token.
        action: what becomes of its text, see `ptb_tokenizer`.
        given_back: how many units at its end are not part of it and are read again.
    """

    pattern: str
    ahead: str = ""
    action: Action = "keep"
    given_back: int = 0


CONTRACTED = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))
"""Two words written as one."""


def _any(words: str) -> str:
    return "(" + "|".join(words.split()) + ")"


_NEWLINE = "\r|\r?\n|\u2028|\u2029|\u000b|\u000c|\u0085"
_ALNUM = "[A-Za-z0-9]"

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "newline": _NEWLINE,
        "white": "{space}|{newline}",
        # -- words
        "word": "{accented}({accented}|{digit})*([.!?]{accented}({accented}|{digit})*)*",
        "accented": "{letter}|&[aeiouAEIOU](acute|grave|uml);",
        "quote": "['\u0092\u2019]|&apos;",
        "inner quote": "{quote}|[`\u0091\u2018\u201b]",
        "short verb": "{quote}([msdMSD]|re|ve|ll)",
        "before not": "[A-Za-z\u00ad]*[A-MO-Za-mo-z](\u00ad)*",
        "not": "n{inner quote}t",
        "elided": (
            "{quote}n{quote}?|[lLdDjJ]{quote}|dunkin{quote}|somethin{quote}|ol{quote}|{quote}em|"
            "[A-HJ-XZn]{inner quote}{alphabetic}{2}{alphabetic}*|{quote}[2-9]0s|{quote}till?|"
            "{alphabetic}{alphabetic}*[aeiouyAEIOUY]{inner quote}[aeiouA-Z]{alphabetic}*|{quote}cause|"
            "cont'd\\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|o{inner quote}o"
        ),
        "alnum": "{alphabetic}|{digit}",
        "article": "[dDoOlL]{inner quote}({alnum})",
        "hyphen": "[-_\u058a\u2010\u2011]",
        "hyphenated": "({article})?({alnum})+({hyphen}({article})?({alnum})+)*",
        "with hyphens": f"{_ALNUM}[A-Za-z0-9.,\u00ad]*(-([A-Za-z0-9\u00ad]+|{{acronym}}\\.))+",
        "with ampersands": "[A-Z]+(([+&]|&amp;)[A-Z]+)+",
        "with slashes": f"{_ALNUM}+(-[A-Za-z]+){{0,2}}(\\\\?/{_ALNUM}+(-[A-Za-z]+){{0,2}}){{1,2}}",
        # -- numbers
        "number": "{digit}+|{digit}*([.:,\u00ad\u066b\u066c]{digit}+)+",
        "fraction": "({digit}{1,4}[- \u00a0])?{digit}{1,4}(\\\\?/|\u2044){digit}{1,4}",
        "phone": (
            "(\\([0-9]{2,3}\\)[ \u00a0]?|(\\+\\+?)?([0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
            "[0-9]{3,4}[- \u00a0]?[0-9]{3,5}|((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"
        ),
        # -- abbreviations
        "acronym": (
            "[A-Za-z](\\.[A-Za-z])+|(canada|sino|korean|eu|japan|non)-u\\.s|u\\.s\\.-(u\\.k|u\\.s\\.s\\.r)"
        ),
        "month or day": _any(
            "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri"
        ),
        "state": _any(
            "ala ariz [A]z [A]rk calif colo conn ct dak [D]el fla ga [I]ll ind kans? ky [L]a [M]ass md "
            "mich minn [M]iss mo mont neb nev okla [O]re [P]a penn tenn [T]ex va vt [W]ash wisc? wyo"
        ),
        "company": _any("inc cos? corp pp?t[ye]s? ltd plc rt bancorp bhd assn univ intl sys"),
        "unit": _any("tel est ext sq"),
        "after a name": _any("jr sr bros (ed|ph)\\.d blvd rd esq"),
        "final": "({month or day}|{state}|{company}|{unit}|{after a name}|etc|al|seq|bldg)\\.",
        "title": _any(
            "mr mrs ms [M]iss drs? profs? sens? reps? attys? lt col gen messrs govs? adm rev maj sgt cpl "
            "pvt mt capt ste? ave pres lieut hon brig co?mdr pfc spc supts? det ft adj adv asst assoc ens "
            "insp mlle mme msgr sfc"
        ),
        "inner": (
            "[A-Za-z]|{title}|vs|alex|wm|jos|cie|a\\.k\\.a|cf|treas|{acronym}|"
            + _any("invt elec natl m[ft]g dept ph")
        ),
        "before number": _any("ca figs? prop nos? art bldg pp op"),
        "opening": _any(
            "[A]bout [A]ccording [A]dditionally [A]fter [A]n [A] [A]s [A]t [B]ut [E]arlier [H]e [H]er "
            "[H]ere [H]owever [I]f [I]n [I]t [L]ast [M]any [M]ore [M]r\\. [M]s\\. [N]ow [O]nce [O]ne "
            "[O]ther [O]ur [S]he [S]ince [S]o [S]ome [S]uch [T]hat [T]he [T]heir [T]hen [T]here [T]hese "
            "[T]hey [T]his [W]e [W]hen [W]hile [W]hat [Y]et [Y]ou {tag}"
        ),
        # -- of the web
        "tag": (
            "<([!?][A-Za-z-][^>\r\n]*|[A-Za-z][A-Za-z0-9_:.-]*([ ]+([A-Za-z][A-Za-z0-9_:.-]*|"
            "[A-Za-z][A-Za-z0-9_:.-]*[ ]*=[ ]*('[^']*'|\"[^\"]*\")))*[ ]*/?|/[A-Za-z][A-Za-z0-9_:.-]*)[ ]*>"
        ),
        "address": 'https?://[^ \t\n\f\r"<>|(){}]+[^ \t\n\f\r"<>|.!?(){},-]',
        "site": (
            '((www\\.([^ \t\n\f\r"<>|.!?(){},]+\\.)+[a-zA-Z]{2,4})|'
            "(([^ \t\n\f\r\"`'<>|.!?(){},-_$]+\\.)+(com|net|org|edu)))"
            '(/[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-])?'
        ),
        "mail": (
            '(&lt;|<)?[a-zA-Z0-9][^ \t\n\f\r"<>|(){}\u00a0]*@'
            '([^ \t\n\f\r"<>|(){}.\u00a0]+\\.)*([^ \t\n\f\r"<>|(){}.\u00a0]+)(&gt;|>)?'
        ),
        "user or topic": "@[a-zA-Z_][a-zA-Z_0-9]*|#({accented})+",
        "file": "({accented}|{digit})+(\\.({accented}|{digit})+)*\\."
        + _any(
            "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php "
            "pl png ppt ps py sql tar txt wav x xml zip"
        ),
        "smiley": "[<>]?[:;=][-o*']?[()DPdpO\\\\{@|\\[\\]]",
        "asian smiley": (
            "[\\^x=~<>]\\.\\[\\^x=[^<]*<>\\]|[-\\^x=~<>']_[-\\^x=~<>']|\\([-\\^x=~<>'][_.]?[-\\^x=~<>']\\)|"
            "\\([\\^x=~<>']-[\\^x=~<>'`]\\)"
        ),
    }
)

_CLOSING_MARK = "[,;:\u3001]"

RULES: Sequence[Rule] = (
    Rule(pattern="cannot|'twas", given_back=3),
    Rule(pattern="'tis|" + "|".join(sorted(CONTRACTED - {"cannot"})), given_back=2),
    Rule(pattern="{tag}", action="solid"),
    Rule(pattern="&(md|mdash|ndash);|[\u0096\u0097\u2013-\u2015]", action="skip"),
    Rule(pattern="&amp;", action="plain ampersands"),
    Rule(pattern="&(ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);"),
    Rule(pattern="{word}", ahead="{short verb}", action="without soft hyphens"),
    Rule(pattern="{before not}", ahead="{not}", action="without soft hyphens"),
    Rule(pattern="{word}", action="without soft hyphens"),
    Rule(pattern="{elided}"),
    Rule(pattern="y{quote}", ahead="{alphabetic}"),
    Rule(pattern="{address}|{site}|{mail}|{user or topic}"),
    Rule(pattern="c\\+\\+|(c|f)#"),
    Rule(pattern="{short verb}", ahead="[^A-Za-z]", action="plain quotes"),
    Rule(pattern="{not}", ahead="[^A-Za-z]", action="plain quotes"),
    Rule(pattern="{digit}{1,2}[-/]{digit}{1,2}[-/]{digit}{2,4}"),
    Rule(pattern="[-+]?({number})", action="without soft hyphens"),
    Rule(pattern="[\u207a\u207b\u208a\u208b]?([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"),
    Rule(pattern="{fraction}", action="solid"),
    Rule(pattern="[\u00bc-\u00be\u2153-\u215e]", action="plain fraction"),
    Rule(
        pattern="-(rrb|lrb|rcb|lcb|rsb|lsb)-|c\\.d\\.s|pro-|anti-|s(&|&amp;)p-500|s(&|&amp;)ls|cap{quote}n|c{quote}est",
        action="plain ampersands",
    ),
    Rule(pattern="{with slashes}"),
    Rule(pattern="[A-Z]*\\$|#"),
    Rule(
        pattern="[\u00a2-\u00a5\u0080\u20a0\u20a4\u20ac\u060b\u0e3f\uffe0\uffe1\uffe5\uffe6]",
        action="plain currency",
    ),
    # A letter and a period before a word that begins sentences: the period ends a sentence.
    Rule(pattern="[A-Za-z]\\.", ahead="({white})+{opening}({white})", given_back=1),
    Rule(pattern="{before number}\\.", ahead="({white})?{digit}"),
    Rule(pattern="(pt[eyEY]|co)\\.", ahead="{space}(ltd|lim)"),
    Rule(pattern="{final}", ahead="[^][^]"),
    Rule(pattern="{final}"),
    Rule(pattern="({inner})\\."),
    Rule(pattern="{inner}", ahead="{space}"),
    Rule(pattern="{acronym}|[A-Za-z]", ahead="{white}"),
    Rule(pattern="{quote}[0-9][0-9]", ahead="{white}"),
    Rule(pattern="{file}", ahead="({white}|[.?!,])"),
    Rule(pattern="({word})\\.", ahead=_CLOSING_MARK, action="without soft hyphens"),
    Rule(pattern="{phone}", action="named parentheses"),
    Rule(pattern='"|&quot;', action="skip"),
    Rule(pattern="\x7f", action="skip"),
    Rule(pattern="<|&lt;", action="less than"),
    Rule(pattern=">|&gt;", action="greater than"),
    Rule(pattern="{smiley}", ahead="[^A-Za-z0-9]", action="named parentheses"),
    Rule(pattern="{asian smiley}", action="named parentheses"),
    Rule(pattern="[{}()\\[\\]]", action="named bracket"),
    Rule(pattern="-+", action="dash"),
    Rule(pattern="\\.{3,5}|(\\.[ \u00a0]){2,4}\\.|[\u0085\u2026]", action="skip"),
    Rule(pattern="@+|#+|_+"),
    Rule(pattern="\\*+|(\\\\\\*){1,3}"),
    Rule(pattern=_CLOSING_MARK),
    Rule(pattern="[?!]+"),
    Rule(pattern="[.\u00a1\u00bf\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]"),
    Rule(pattern="="),
    Rule(pattern="/"),
    Rule(pattern="{with hyphens}\\.", ahead=_CLOSING_MARK, action="without soft hyphens"),
    Rule(pattern="{with hyphens}", action="without soft hyphens"),
    Rule(pattern="({hyphenated})\\.", ahead=_CLOSING_MARK),
    Rule(pattern="{hyphenated}"),
    Rule(pattern="({with ampersands})\\.", ahead=_CLOSING_MARK, action="plain ampersands"),
    Rule(pattern="{with ampersands}", action="plain ampersands"),
    Rule(pattern="'", ahead="[A-Za-z][^ \t\n\r\u00a0]", action="skip"),
    Rule(pattern="{short verb}|{not}", action="plain quotes"),
    Rule(
        pattern="{quote}|''|[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2}", action="plain quotes"
    ),
    Rule(pattern="<<|>>"),
    Rule(pattern="{symbol}"),
    Rule(pattern="\0|{space}+|[\u200b\u200e\u200f\ufeff]|&nbsp;", action="skip"),
    Rule(pattern="{newline}", action="new line"),
)
