"""Read a series name, by its words or a site's table: its weighting, and whether it states contrast agent.

Every word of a name becomes a class of `vocabulary.yaml`, and `PHRASES` combines classes into statements. Any
remainder makes the name doubtful: an unlisted word, a single letter, a sign, a second negation. A word counts as listed
if it is in the vocabulary, starts with a listed beginning, joins listed words, or is long and has a single mistake.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import takewhile
from pathlib import Path

import yaml
from pydicom.dataset import Dataset

from common.errors import InputError
from scripts.yaml_files import read_yaml

from ..study import values_of

WITH, WITHOUT, UNCLEAR = "with", "without", "unclear"
POST = "post"  # after agent, treatment, a seizure, a visit ...
NO_MODALITY = "none"  # in the site's table of series names: series to leave out
# letters allowed after a listed beginning; they cannot spell "ce", "gd", "km", "enh", "inj", "post" or "free"
ENDING = "[^\\W\\d_cfghjkpvwxzкгп]{0,7}"
SURE = 6  # letters, smallest length of a word in which a single mistake is accepted
LETTERS = str.maketrans("łıđð[]{}–—−\\", "lidd()()---/") | {ord("ß"): "ss", ord("æ"): "ae", ord("ø"): "oe"}
LETTERS |= str.maketrans(  # traditional Chinese and Japanese characters -> simplified
    "藥薬顯対對軸狀橫斷腦脳頭顱強増劑剤單単純掃無術層體張給検檢權壓飽臥後電訓練縱鬆弛濾釓導続續圖図側蓋実內",
    "药药显对对轴状横断脑脑头颅强增剂剂单单纯扫无术层体张给检检权压饱卧后电训练纵松弛滤钆导续续图图侧盖实内",
)
LATIN = str.maketrans(  # Cyrillic and Greek -> Latin, as technicians transliterate
    "абвгґдезиіјклмнопрстуфхыэћђαβγδεζηικλμνξοπρσςτυφω", "abvggdeziijklmnoprstufhyecdavgdeziiklmnxoprsstyfo"
) | str.maketrans(
    {"ж": "zh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ю": "yu", "я": "ya", "ъ": "", "ь": ""}
    | {"љ": "lj", "њ": "nj", "θ": "th", "χ": "ch", "ψ": "ps"}
)
_CODES = """
    agent=A contrast=C weak_agent=a injection=v lone_agent=j negation=n without=O before=b pre=B after=q post=p
    together=w con=c after_agent=y before_agent=z enhanced=X native=V filler=i glue=g t1=T weak_t1=k t2=2 flair=L
    gradient=G inversion=I dixon=D fat=F water=l neutral=N repeats=S study=S setting=s
    purpose=u treatment=r detail=h extent=e
"""
CODES = dict(pair.split("=") for pair in _CODES.split())  # one character per class; "?": unlisted word or sign
_AGENT = "[ivg]*(?:[Aav][Aavig]*|c(?![ivg]*[Aav]))"
PHRASES = [  # replacements for sequences of classes, in this order; 1: with agent, 0: without
    ("^([TFGINDk]*)j([TFGINDk]*)$", r"\g<1>1\2"),  # "T1 INJ" without possible negation
    ("j", "a"),
    ("s(?=C)", "?"),  # "standard contrast" is a property of the image
    ("[AavCX+P]d|d(?=[AavC+P]|$)", "?"),  # a minus rather than a dash
    ("d", "N"),
    ("^g|g$", "?"),  # "T2 DE" is a double echo
    ("[qpbB]N*r", "o"),  # after a treatment
    ("(r.*)p(?![ivg]*[AavC])", r"\1o"),
    ("C", "A"),
    ("l(?=[ivg]*[Aavc])", "?"),  # "T1 W GAD"
    ("m(?=[ivg]*A)|(?<=[Aav])m", ""),
    ("Z(?=[ivg]*[Aav])|(?<=[Aav])Z", "?"),  # a dose of zero
    ("[nO][Fs]+", "N"),  # without fat suppression, without motion correction
    ("[wc]F+", "F"),
    (rf"[nObB]{_AGENT}", "0"),
    (rf"[qpwc]{_AGENT}", "1"),
    (r"[+P][Aa]v?|[Aav]+[+P]", "1"),
    ("M[Aa]|[Aav]M", "0"),
    ("[Aa][iv]*y", "1"),
    ("[Aa][iv]*z", "0"),
    ("V|B|O$", "0"),
    ("A[Aivg]*|p|X", "1"),
]
AGENTS = set("ACavjcyX+P")  # classes that state an agent beside "post"
_TOOLS = r"\(enhanced conversion\)|: *processed(?:[ _]captk)? *$"  # added by highdicom and by CaPTk
_ROMANCE = r"contr|ga?d|mdc|(?:civ|cte)(?!\w)"
_SIGNED = r"(?:gd|gad|gado|km|ce|kl|mdc|contrast\w*|kontrast\w*)"


BIDS = re.compile(r"sub-[a-z]*\d[a-z\d]*(?:_[a-z]+-[a-z\d]+)*_(?:t[12]w|flair)")


def _bids_words(name: str) -> str:
    """Drop subject and numbers of a BIDS name and replace "ce-" by "with": "sub-01_ce-gd_T1w" gives "with gd_T1w"."""
    name = re.sub(r"^sub-[a-z\d]+_|(?<=_)(?:ses|run)-\d+_", "", name)
    return re.sub(r"(?:ses|run|acq|rec)-", " ", re.sub(r"(?<![a-z])ce-", " with ", name))


def _split_prefix(match: re.Match[str]) -> str:
    """Separate T1 or T2 from a neutral prefix, as in "axT1", and drop the letter that Philips puts before T1 or T2."""
    prefix, weighting = match[1], match[2]
    if len(prefix) == 1 and prefix in ("sevmr" if weighting == "t1" else "sevmrd"):
        return f" {weighting} "
    return f"{prefix} {weighting} " if not prefix or VOCABULARY.get(prefix, "?") in "NSFGIDsA" else match[0]


REWRITINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [  # applied to plain text in this order
    (_TOOLS, " "),
    (r"^(?:\*|opt[ _])", ""),  # marks of Siemens and Fujifilm sequences
    (r"[_^|]", " "),
    (r"[тτ](?=[12])", "t"),  # a Cyrillic or Greek letter
    (r"(?<=t1)(w?) mpr(?![a-z]| ?(?:a[xks]|tra|[ck]or|obl|par|\d+ ?mm)(?![a-z]))", r"\1 mprage"),  # else a reformat
    (r"t1[_ ]images?.*mp2rage|mp2rage(?=.*t1)|(?<=t[12])[_ ]images?(?![a-z])", " ? "),  # maps
    (r"mp2rage", "mprage"),
    (r"(?<!\w)c/ ?c(?!\w)", " con ce "),
    (r"(?<!\w)so nao(?!\w)(?!.*(?:contr|ga?d|inj))", " brain "),  # Vietnamese; with an agent, "só não" of Portuguese
    (r"в ?/ ?в(?!\w)", " iv "),
    (r"(?<!\w)к ?/ ?у(?!\w)", " ку "),
    (r"(?<!\w)n ?[/.] ?a(?![a-z])", " ? "),  # not applicable
    (r"(?<!\w)((?:\w\.){2,}\w?)(?!\w)", lambda match: match[1].replace(".", "")),  # k.m., i.v., m.d.c.
    # signs
    (r"(?<=t[eri])=(?=\d)|#(?=\d)", " "),
    (r"\+ ?/ ?-|-/ ?\+|[^\w\s()+/:;,.×·'’\"-]", " ? "),
    (r"\( ?\+ ?\)", " ⊕ "),
    (r"\( ?- ?\)", " ⊖ "),
    (r"(?<!\S)\(?-c(?!\w)", " ⊖ c "),
    (rf"(?<!\S)\(?- ?(?={_SIGNED}(?!\w))|(?<!pre)(?<!post)(?<!non)(?<=\w)-(?=c(?!\w))", " ? "),  # hyphen or minus
    (r"(?<=\w)-(?!\w)", " ⊖ "),
    (r"(?<!\w)-(?!\w)", " ~ "),  # a dash or a minus
    # numbers
    (r"(?<![^\s(])(?:2|ii)(?:nd|[.)])?(?!\S| ?(?:[23]?d|mm|cm|t)(?![a-z]))", " second "),  # maybe the scan after agent
    (r"(?<![\d.,])(?=[\d.,]*[1-9])\d*[.,]?\d+ ?(?:ml|cc|mmol(?:/kg)?)(?![a-z])", " ⊛ "),  # a dose that is not zero
    (r"[23] ?d(?![a-z])|(?<!\w)[23]d", " "),
    (r"(?<![a-z])p(?=\d)", " "),  # p2: parallel imaging
    (r"(?<![a-z]\d)(?<=\d) ?cm(?![a-z])", " mm "),
    (r"(?<![a-z]\d)(?<=\d) ?t(?![a-z\d])", " tesla "),
    (r"(?<=\d)[xp×](?=\d)", " "),
    # abbreviated prepositions: a letter with a slash or dot, or joined to KM
    (r"(?<=t[12])w ?[/.-] ?o(?:ut)?(?![a-z])|(?<!\w)w ?[/. -]? ?o(?:ut)?(?![a-z])", " without "),
    (r"(?<!\w)w ?/|(?<!\w)w (?=(?:con|cont|contrast|gad|gado|gadolinium|gd)(?!\w))", " with "),
    (rf"(?<!\w)s/ ?(?={_ROMANCE})|(?<!\w)s(?=mdc(?!\w))|(?<!\w)s/(?=c(?!\w| ?contr))", " without "),
    (rf"(?<!\w)c/ ?(?={_ROMANCE})|(?<!\w)c(?=mdc(?!\w))", " with "),
    (r"(?<!\w)(?:u[/.] ?(?=k(?:ontr\w*|m)?(?!\w))|z[/.] ?(?=contr))", " without "),
    (r"(?<!\w)m(?:[/.] ?(?=k(?!\w))|[/. ] ?(?=[ck]ontr\w*))", " with "),
    (r"(?<![a-z])[ov](?:\. ?)?(?=(?:km|gd)(?![a-z]))", " without "),
    (r"(?<![a-z])[mn](?:\. ?)?(?=(?:km|gd)(?![a-z]))", " with "),
    # T1 and T2 with a prefix or a suffix
    (r"t1c(?![a-z-]| ?[+⊕⊖])", "t1 ce "),
    (r"t1n(?![a-z])", "t1 native "),
    (r"(?<![a-z])([a-z]*)(t[12])(?!\d)(?:wi(?!th)|w(?!ith))?", _split_prefix),
]  # fmt: skip


def _plain(text: str) -> str:
    """Return text in lower case without accents."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text).lower() if unicodedata.category(letter) != "Mn")
    return "".join(letters).translate(LETTERS)


GROUPS = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
GROUPS["neutral"] = " ".join(GROUPS["neutral"].values())  # a mapping by topic
_WORDS = {word: CODES[name] for name, words in GROUPS.items() for word in _plain(words).split()}
_WORDS = {word.translate(LATIN): code for word, code in _WORDS.items() if len(word) > 3} | _WORDS
VOCABULARY = {word.replace("_", ""): code for word, code in _WORDS.items() if "*" not in word}
BEGINNINGS = {word[:-1]: code for word, code in _WORDS.items() if word.endswith("*")}
JOINED = [  # terms of several words, longest first
    (re.compile(rf"(?<![^\W\d_]){word.replace('_', '[ -]*')}(?![^\W\d_])"), f" {word.replace('_', '')} ")
    for word in sorted(_WORDS, key=len, reverse=True)
    if "_" in word
]
MISSPELT = {
    word: "a" if code in "AC" else code for word, code in VOCABULARY.items() if len(word) >= SURE and code in "NSCAO"
}


@dataclass(frozen=True)
class Words:
    """What the name of a series states: the weighting (`kind`), and whether contrast agent was given.

    `kind` is T1, T2, FLAIR or None, `contrast` WITH, WITHOUT, POST, UNCLEAR or None. `unread`: part of the name is not
    understood. `named`: the site's table of series names contains the name.
    """

    kind: str | None
    contrast: str | None
    unread: bool = False
    named: bool = False


@cache
def read_words(text: str, covers_brain: bool = False) -> Words:
    """Interpret a series description or protocol name; `covers_brain`: whether the field of view contains a brain.

    Example:
        >>> read_words("AX T1 SANS GADO")
        Words(kind='T1', contrast='without', unread=False, named=False)
        >>> read_words("T1 S GADO")
        Words(kind='T1', contrast='with', unread=True, named=False)
    """
    classes = _classes(text).replace("S", "N")
    post_only = "p" in classes and not AGENTS & set(classes)
    present = set(classes)
    kinds = {"T": "T1", "L": "FLAIR", "2": "T2", "k": "T1"}
    kind = next((kind for code, kind in kinds.items() if code in present), None)
    for phrase, meaning in PHRASES:
        classes = re.sub(phrase, meaning, classes)
    stated = {WITHOUT: "0", WITH: "1"}
    contrast = [says for says, code in stated.items() if code in classes]
    neutral = "NsZTFDLg201"
    neutral += "GIh" if kind == "T1" else "I" if kind == "FLAIR" else ""  # T2 with "G" is T2*, with "I" STIR
    neutral += "k" if "T" in present or (contrast and kind == "T1") else ""
    neutral += "ur" if contrast or kind != "T1" else ""
    neutral += "l" if "D" in present or not contrast else ""
    neutral += "AavpBbqwcyzo+PM" if kind in ("T2", "FLAIR") else ""  # agent does not change the kind
    if kind == "T1" and not contrast:  # fat is mostly suppressed in scans after agent
        neutral = neutral.replace("F", "")
    neutral += "eh" if covers_brain else ""
    unread = not set(classes) <= set(neutral) or {"T", "2"} <= present or {"D", "F"} <= present
    says = UNCLEAR if len(contrast) > 1 else next(iter(contrast), None)
    return Words(kind, POST if says == WITH and post_only else says, unread)


def _classes(text: str) -> str:
    """Return the classes of a name's words, one character for each."""
    text = re.sub(r"(?<![^\W_])KL(?![^\W_]| ?FOV)", "KM", text)  # Czech for agent; "kl" may mean small
    text = _plain(re.sub(r"(?<=[a-z]{2})(?=[A-Z])|(?<=[A-Z][a-z])(?=[A-Z][a-z])", " ", text))  # mpragePost
    if BIDS.fullmatch(text):
        text = _bids_words(text)
    for pattern, replacement in REWRITINGS:
        text = re.sub(pattern, replacement, text)
    for joined, word in JOINED:
        text = joined.sub(word, text)
    return "".join(map(_class, re.findall(r"t[12](?!\d)|[^\W\d_]+|\d+(?:[.,]\d+)*|[?+⊕⊖⊛~]", text)))


def _class(word: str) -> str:
    """Return the class of a word, number or sign, "?" if unknown; joined words ("axse") give a class for each part."""
    if signs := {"+": "+", "⊕": "P", "⊖": "M", "⊛": "m", "~": "d"}.get(word):
        return signs
    if word[0].isdigit():
        return "N" if word.strip("0.,") else "Z"
    if word in VOCABULARY:
        return VOCABULARY[word]
    for end in range(len(word) - 1, 0, -1):  # longest part first
        first = word[:end]
        if (
            first in VOCABULARY
            and _may_join(first)
            and "?" not in (rest := _class(word[end:]))
            and _may_join(word[end:])
        ):
            return VOCABULARY[first] + rest
    for beginning, code in BEGINNINGS.items():
        if word.startswith(beginning) and re.fullmatch(ENDING, word[len(beginning) :]):
            return code
    similar = {code for listed, code in MISSPELT.items() if len(word) >= SURE and _one_mistake(word, listed)}
    latin = word.translate(LATIN)  # some Slavic words are listed in Latin letters only
    if not similar and latin != word and len(latin) > 3:
        return _class(latin)
    return similar.pop() if len(similar) == 1 else "?"


def _one_mistake(word: str, listed: str) -> bool:
    """Return whether `word` lacks, doubles, swaps (with the next) or changes (not the last) a letter of `listed`."""
    same = sum(1 for _ in takewhile(lambda letters: letters[0] == letters[1], zip(word, listed, strict=False)))
    rest, expected = word[same:], listed[same:]
    swapped = rest[:2] == expected[1::-1] and rest[2:] == expected[2:]
    doubled = rest[1:] == expected and rest[:1] == word[same - 1 : same]
    changed = len(rest) > 1 and rest[1:] == expected[1:]
    return same > 0 and (swapped or doubled or changed or rest == expected[1:])


def _may_join(word: str) -> bool:
    """Return whether a word may be part of a joined word: "trace" is not "tra" and "ce"."""
    return len(word) > 2 or word in ("gd", "km", "ax", "fs", "se") or not word.isascii()


MEANINGS = {
    "T1": Words("T1", WITHOUT, named=True),
    "T1ce": Words("T1", WITH, named=True),
    "T2": Words("T2", None, named=True),
    "FLAIR": Words("FLAIR", None, named=True),
    NO_MODALITY: Words(NO_MODALITY, None, named=True),
}
Names = Sequence[tuple[str, Words]]  # pattern in lower case, and the meaning of matching names


def read_table(path: Path | None) -> Names:
    """Read a site's table of series names, such as `{"T1 KOPF S1": T1, "*_gd_v?": T1ce, "scout*": none}`.

    Names match in full, without regard to case; * matches any characters, ? a single character. The result is empty
    without a file. Raise `InputError` if the table is invalid.
    """
    if path is None:
        return ()
    table = read_yaml(path, "a YAML file of names")
    if not isinstance(table, dict) or not {*table.values()} <= MEANINGS.keys():
        raise InputError(f"--series_names: expected a mapping from names to {', '.join(MEANINGS)}")
    return [(name.strip().lower(), MEANINGS[modality]) for name, modality in table.items()]


def read_names(header: Dataset, names: Names = (), covers_brain: bool = False) -> tuple[Words, Words]:
    """Read weighting and contrast agent from series description and protocol name; a match in `names` replaces both."""
    texts = (values_of(header, word) for word in ("SeriesDescription", "ProtocolName"))
    description, protocol = ("\\".join(map(str, values)) for values in texts)  # a backslash separates values
    name = (description or protocol).strip().lower()
    matching = {words for pattern, words in names if fnmatchcase(name, pattern.replace("[", "[[]"))}
    exact = {words for pattern, words in names if name == pattern}
    if len(exact or matching) > 1:
        raise InputError("--series_names: two patterns give one series different modalities")
    if named := next(iter(exact or matching), None):
        return named, Words(None, None)
    return read_words(description, covers_brain), read_words(protocol, covers_brain)
