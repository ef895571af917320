"""Read a series description: its weighting, and whether contrast agent was given.

It knows words in 17 languages (`vocabulary.yaml`). Only phrases of known words give a clear answer: "T1 GAD" does, "T1
XYZ GAD" does not.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

VOCABULARY = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
PATTERNS = {name: "|".join(map(re.escape, words.split())).replace(r"\*", r"\w*") for name, words in VOCABULARY.items()}
COMPILED = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}
EVENT, FILLER = {"event"}, {"filler", "giving"}
HEAD = {"head", "lesion"}
NEUTRAL = FILLER | {"neutral", "fat", "before", "after", "together", "native", "head", "purpose", "agent"}
NEUTRAL |= {"t1_sequence", "flair", "gradient", "dixon"}
ALONE = {"short_agent", "before", "after", "together"}  # unclear without an agent

WITH, WITHOUT, UNCLEAR = "with", "without", "unclear"
OTHER = "other"  # kind of diffusion, angiography, spine scans and the like

_AGENT = rf"(?:{PATTERNS['agent']})"
_SIGNED = r"(?:c|ce|gd|gad|gado|gadolinium|km|kl|mdc|iv|inj|contrast|kontrast|ку)"
_STEM = r"(?:mprage|mpr|bravo|fspgr|spgr|vibe|space|cube|flair|tse|fse|t1)"
_PREFIX = r"(?:pre|post|non|no|ohne|sans|sin|wo|nach|vor|mit|avec|con|without|with|пре|пост|до|после|без)"
_BEFORE_T = r"(?<![a-z])((?:ax|axial|sag|sagittal|cor|coronal|kor|tra|fs|fl|se|ss|tse|fse|ir|wip|hr|qt|r|s|e|v|m)?)"
LETTERS = str.maketrans("łıđ[]{}–—−", "lid()()---") | {ord("ß"): "ss", ord("æ"): "ae", ord("ø"): "oe"}
REWRITINGS = [  # applied in this order to text in lower case without accents
    (r"[_^]", " "),
    (r"\(enhanced conversion\)", " "),  # added by highdicom when it converts to enhanced MR
    (r"[^\w\s!-~±°µ®™©×·’´`]", " unclear "),  # unknown sign
    (r"т(?=[12])", "t"),  # a Cyrillic letter
    (r"[=:] ?(?:0|no?)(?!\w)", " unclear "),
    (r"(?<![\d.,])0(?:[.,]0+)? ?(?:ml|cc|mmol)(?!\w)", " unclear "),  # a dose of zero
    (rf"(?<![^\W\d_]){_AGENT} ?0(?![\d.,])", " unclear "),
    (r"(?<![a-z])n ?[/.] ?a(?![a-z])", " unclear "),  # not applicable
    (r"(?<!\w)b ?=? ?(?:0|50|\d{3,4})(?!\d)", " diffusion "),  # b-values in s/mm²
    (r"mp2rage|mp[ -]rage", "mprage"),
    (r"(?<![a-z])p(?=\d)", " "),  # p2: parallel imaging
    # T1 and T2 with a suffix
    (r"t1w?i?c(?![a-z]| ?[+(-])", "t1 ce "),
    (r"t1n(?![a-z])", "t1 native "),
    (r"t1 +w *$", "t1 unclear "),  # "w" may mean with or weighted
    (r"(t[12])w(?=[a-z+(-])(?!ith|ip)", r"\1 w "),
    (r"t2 ?(?:w ?)?\*|t2s(?![a-z])", " t2 star "),
    (r"\*", " unclear "),
    (r"(?<![a-z])k\. ?([lm])\.?(?![a-z])", r"k\1"),
    # signs
    (r"\+ ?/ ?-|-/ ?\+|[?±]", " unclear "),
    (rf"(?<![a-z]){_SIGNED} ?\(\+\)|\(\+\) ?{_SIGNED}(?!\w)", " with contrast "),
    (rf"(?<![a-z]){_SIGNED} ?\(-\)|\(-\) ?{_SIGNED}(?!\w)", " without contrast "),
    (rf"(?<![a-z]){_SIGNED} minus *$", " without contrast "),
    (rf"(?<![a-z]){_SIGNED} ?\+(?![\w+])|\+ ?{_SIGNED}(?!\w)", " with contrast "),
    (rf"(?<![a-z]){_SIGNED}-(?!\w)|(?<=[ (])-c(?!\w)", " without contrast "),
    (rf"(?<=[ (])- ?{_SIGNED}(?!\w)|(?<=\w)-c(?!\w)", " unclear "),  # hyphen or minus
    (r"\([+-]\)|(?<=t1)w? *\+|[+-] *$", " unclear "),  # + or - alone
    (r"(?<=\d)d(?=[a-z])", "d "),  # 3DT1
    (rf"{_BEFORE_T}(t[12])(?!\d)", r"\1 \2 "),
    # prepositions as single letters
    (r"(?<![a-z])i\.? ?v\.?(?![a-z])", "iv"),
    (r"(?<![a-z])w[ /]*wo(?![a-z])", " unclear "),  # with and without
    (r"(?<![a-z])w ?/ ?o(?:ut)?(?![a-z])|(?<![a-z])w o(?![a-z])", " without "),
    (r"(?<![a-z])w ?/", " with "),
    (r"(?<![a-z])s ?/ ?c(?![a-z+])", " without contrast "),  # Spanish and Portuguese: sin, sem
    (r"(?<![a-z])s ?[/.] ?(?=kontr)", " unclear "),  # Czech: with; elsewhere: without
    (rf"(?<![a-z])[su] ?[/.] ?(?={_AGENT}(?!\w))", " without "),  # s/ contraste, u/kontrast
    (rf"(?<![a-z])ss (?={_AGENT}(?!\w))", " without "),  # French: sans
    (rf"(?<![a-z])[cm] ?[/.] ?(?={_AGENT}(?!\w))", " with "),  # c/ contraste, m/kontrast
    (r"(?<![a-z])c ?(?=mdc(?![a-z]))", " con "),  # Italian
    (r"(?<![a-z])o\.? ?(?=km(?![a-z]))", " ohne "),
    (r"(?<![a-z])v\.? ?(?=km(?![a-z]))", " vor "),
    (r"(?<![a-z])[mn]\.? ?(?=km(?![a-z]))", " mit "),
    (r"(?<![a-z])s (?=kl(?![a-z])|kontrast(?:em|om|ni))", " with "),  # Czech and Slovak
    # words written together
    (rf"{_STEM}(?=(?:{_PREFIX}|{_AGENT}|native?)(?!\w))", r"\g<0> "),
    (rf"(?<![^\W\d_])({_PREFIX})(?=(?:{_AGENT}|con|c|inj\w*)(?!\w))", r"\1 "),
]


@dataclass(frozen=True)
class Words:
    """The meaning of a text.

    `kind` is None if no word states it, and so is `contrast`. An `unread` word may mean anything.
    """

    kind: str | None
    contrast: str | None
    unread: bool = False


@cache
def read_words(text: str) -> Words:
    """Read a series description or a protocol name.

    Example:
        >>> read_words("AX T1 SANS GADO")
        Words(kind='T1', contrast='without', unread=False)
        >>> read_words("t1_mprage_sag_KM")
        Words(kind='T1', contrast='with', unread=False)
        >>> read_words("T1 quux")
        Words(kind='T1', contrast=None, unread=True)
        >>> read_words("AX T2 GRE")
        Words(kind='other', contrast=None, unread=False)
    """
    words = _words(text)
    moved = next((place for place, word in enumerate(words) if word in ("to", "onto", "2")), 0)
    if _weightings(words[:moved]) and _weightings(words[moved:]):
        words = words[:moved]  # "FLAIR to T1" is a registered FLAIR
    kind = _kind(words)
    if kind == OTHER:
        return Words(OTHER, None)
    return Words(kind, _contrast(words), not all(word.isdigit() or meanings(word) for word in words))


def _words(text: str) -> list[str]:
    """The words of a text in lower case without accents, with signs such as +C spelled out."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)  # T1wPost
    text = unicodedata.normalize("NFKD", text).lower()
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = text.translate(LETTERS)
    for pattern, replacement in REWRITINGS:
        text = re.sub(pattern, replacement, text)
    return re.findall(r"t[12](?!\d)|[^\W\d_]+|\d+|[+&/:;,]", text)


@cache
def meanings(word: str) -> frozenset[str]:
    """The groups of the vocabulary that a word is in; none for a word that is not read."""
    found = {name for name, pattern in COMPILED.items() if pattern.fullmatch(word)}
    if "denial" in found:  # "contrastfree" is no agent
        found -= {"denial"} if found & {"given", "not_given"} else {"denial", "agent"}
    return frozenset(found)


def _is(word: str, groups: set[str]) -> bool:
    return not groups.isdisjoint(meanings(word))


def _is_neutral(word: str) -> bool:
    """Whether a word (or the end of the text) next to an agent leaves its meaning unchanged."""
    return not word or word.isdigit() or _is(word, NEUTRAL)


def _present(words: list[str]) -> frozenset[str]:
    return frozenset().union(*map(meanings, words))


def _weightings(words: list[str]) -> set[str]:
    present = _present(words)
    found = {word.upper() for word in words if word in ("t1", "t2")}
    found |= {"T1"} if "t1_sequence" in present else set()
    fluid = {"tirm", "fluid"} & set(words) or "flair_in_word" in present
    return found | {"FLAIR"} if fluid else found


def _kind(words: list[str]) -> str | None:
    found, present = _weightings(words), _present(words)
    if "other_image" in present or (present & {"dixon", "dixon_brand"} and words[-1] == "fat"):
        return OTHER
    if {"T1", "T2"} <= found or (len(found) > 1 and "T1" in found and "moved" in present):
        return OTHER
    if "T1" in found:
        return "T1"  # also in "T1 FLAIR"
    if "FLAIR" in found:
        return "FLAIR"
    if "T2" in found:
        if present & {"gradient", "gradient_in_words"}:
            return OTHER
        return None if "proton_density" in present else "T2"
    return OTHER if "proton_density" in present else None


def _contrast(words: list[str]) -> str | None:
    """The combined meaning of all phrases; contradictory phrases are unclear."""
    present = _present(words)
    claims: set[str | None] = {UNCLEAR} if "refused" in present else set()
    used: set[int] = set()
    for agent in ("agent", "short_agent"):  # in "con gadolinio", "con" is a preposition; in "W/O CON" it is the agent
        for place, word in enumerate(words):
            if place in used or not _is(word, {agent}):
                continue
            claim, places = _phrase(words, place)
            if agent == "agent" or len(places) > 1:
                claims.add(WITH if _is(word, {"given"}) else WITHOUT if _is(word, {"not_given"}) else claim)
                used |= places
    claims |= {_alone(words, place) for place in range(len(words)) if place not in used}
    claims -= {None}
    if not claims and "giving" in present:
        return UNCLEAR  # "T1 delayed"
    return UNCLEAR if len(claims) > 1 else next(iter(claims), None)


def _phrase(words: list[str], agent: int) -> tuple[str, set[int]]:
    """The meaning of the phrase that ends with an agent, and the indices of its words. "not after gad" is unclear."""
    says, places, place = set(), {agent}, agent - 1
    while place >= 0:
        word = words[place]
        if _is(word, {"negation", "before"}):
            says.add(WITHOUT)
        elif _is(word, {"after", "together"}):
            says.add(WITH)
        elif not _is(word, FILLER | {"agent"}):
            break
        places.add(place)
        place -= 1
    following = words[agent + 1] if agent + 1 < len(words) else ""
    if suffix := meanings(following) & {"suffix_with", "suffix_without"}:
        says = {WITH if "suffix_with" in suffix else WITHOUT}
    elif not says and not _is(words[agent], {"short_agent"}) and (place < 0 or _is_neutral(words[place])):
        says = {WITH} if _is_neutral(following) else set()  # "T1 GAD"
    return (says.pop() if len(says) == 1 else UNCLEAR), places


def _alone(words: list[str], place: int) -> str | None:
    """The meaning of a word that belongs to no agent."""
    word, following = words[place], words[place + 1] if place + 1 < len(words) else ""
    if _is(word, {"native"}):
        return UNCLEAR if place and _is(words[place - 1], {"negation"}) else WITHOUT
    if word in ("pre", "post"):
        return _before_or_after(words, place)
    if _is(word, {"before", "after"}) and _is(following, EVENT):
        return None
    if _is(word, {"negation"}):
        if _is(following, {"fat"}) or (following.isdigit() and word == "no"):
            return None
        joined = place and _is(words[place - 1], FILLER | {"together"})  # "T1 W/WO"
        return UNCLEAR if following or joined or word in ("no", "non", "not", "utan") else WITHOUT  # "T1 W/O"
    if (word == "cm" and place and words[place - 1].isdigit()) or word in ("w", "z", "s", "с"):
        return None
    if _is(word, {"together"}) and _is(following, {"fat"}):
        return None
    return UNCLEAR if _is(word, ALONE) or word in ("unclear", "+") else None


def _before_or_after(words: list[str], place: int) -> str | None:
    """The meaning of "pre" or "post" without an agent; None if it refers to something else, such as surgery."""
    end = next((other for other in range(place, len(words)) if words[other] in ":;,"), len(words))
    rest = words[place + 1 : end]
    following, later = (*rest, "", "")[:2]
    directions = place and _is(words[place - 1], {"front"})
    if directions or (following.isdigit() and _is(later, {"period"})) or not _is_neutral(following):
        return None if _is(following, EVENT) else UNCLEAR
    beyond_head = next((word for word in rest if not _is(word, HEAD)), "")
    if _is(beyond_head, EVENT):
        return None  # "post tumor resection"
    if any(_is(word, EVENT | {"purpose"}) for word in rest):
        return UNCLEAR
    return WITHOUT if words[place] == "pre" else WITH
