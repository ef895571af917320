"""Read the words of a series: what it is weighted by, and whether it was scanned with contrast agent.

The words are those of sites that write Czech, Danish, Dutch, English, Finnish, French, German, Italian, Norwegian,
Polish, Portuguese, Romanian, Russian, Slovak, Spanish, Swedish or Turkish. Only phrases of known words give a clear
answer: "T1 GAD" does, but "T1 XYZ GAD" is unclear, since the word next to the agent is in none of these lists.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

__all__ = ["OTHER", "UNCLEAR", "WITH", "WITHOUT", "Words", "read_words"]

WITH, WITHOUT, UNCLEAR = "with", "without", "unclear"
OTHER = "other"  # a kind: neither T1 nor T2 nor FLAIR, such as diffusion, angiography or a scan of the spine


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGENT = re.compile(  # names of contrast agent, in full and as sites shorten them; "ку" is Russian for enhancement
    r"gd|gad|gado\w*|gadavist|dotarem|clariscan|magnevist|multihance|prohance|omniscan|primovist|eovist|elucirem|vueway"
    r"|artirem|optimark|vasovist|km|kontr|kontras\w*|contr|contrast\w*|tehoste\w*|mdc|pdc|sdc|ce|контраст\w*"
    r"|гадо\w*|ку"
)
SHORT_AGENT = _set(  # only after a word such as "post": "cont" may be continued, "enhanced" a filter, "kl" small
    "c con cont cm iv inj injection injecte injectee injektion civ kl enhanced enhancement"
)
NEGATION = _set(
    "no non not nil never none without wo sans pas sin sine senza ohne kein keine nicht zonder geen niet sem bez nie"
    " brak uten uden utan ikke inte ej ilman fara yok без не нет"
)
BEFORE = _set("pre pra before prior vor avant antes prima voor przed pred foer fore innan inainte до")
AFTER = _set("post after following nach apres despues tras dopo na po efter etter apos pos dupa после")
TOGETHER = _set("with w mit avec con com met med z ze cu с")
SUFFIX = {"oncesi": WITHOUT, "free": WITHOUT, "sonrasi": WITH, "jalkeen": WITH}  # Turkish and Finnish: behind the noun
ONE_WORD = {"kontrastsiz": WITHOUT, "kontrastli": WITH}  # Turkish
NATIVE = _set(
    "nativ native natif natives natifs nativa nativo nativt natywny natywna natywne natywnie nativni nativne unenhanced"
    " nonenhanced noncontrast plain blanco basale simple натив нативный нативная"
)
FILLER = _set(  # between such a word and the agent: "po podaniu kontrastu", "senza mezzo di contrasto"
    "iv i v de du la le el il l the d di des any of podaniu podaniem podani administration injection inj injektion"
    " bolus mezzo medio meio produit srodka srodkiem latky latkou agent media medium dose and und et y e en oraz og och"
    " ve or oder ou o to + & / и"
)
ALONE_UNCLEAR = _set(
    "vor avant antes voor przed after apres nach dopo despues efter etter apos con cont inj injection iv"
    " civ kl enhanced enhancement"
)
OTHER_EVENT = _set(  # "post" and "pre" that speak of something else
    "proc process processed processing op ops operative operativ operatively operatoire operatorio opera surgery"
    " surgical surg resection biopsy rt xrt radiation radiotherapy chemo treatment treat tx therapy therapie fossa"
    " trauma traumatic ictal stim stimulation dbs lit litt sat satur pituitary exercise medication partum stroke"
)
REFUSED = _set(
    "refused declined failed cancelled canceled aborted omitted skipped missing extravasation paravasat refus abgelehnt"
    " abgebrochen entfallen rifiutato rechazado"
)
FRONT = _set("ant anterior ap")  # "ant post" are directions
PERIOD = _set("h hr hrs hours day days tag tage week weeks month months mo year years yr j jours")  # "post 24 h"

NEUTRAL = _set(  # words that may stand next to an agent without changing what it says
    # planes
    "ax axi axial axiale axiaal axiales sag sagit sagittal sagital sagittale saggital cor coronal coronale kor koronar"
    " tra trans transv transverse transversal transversaal transversale obl oblique"
    # sequences
    " se tse fse tfe ffe ge gre gr fl tfl fast turbo ir mprage mpr mp rage bravo spgr fspgr efgre vibe space cube vista"
    " brainview thrive ethrive flash lava mdixon dixon blade propeller multivane starvibe bb isir hr hires res"
    " resolution thin iso isotropic isotrop mm fs fatsat fat sat sf spir spair supp grappa sense cs asset arc sms pat"
    " caipi wave moco ref norm nd dis fil filt uni den weighted weight gewichtet pondere ponderee ponderado ponderada"
    " pesata image images volume volumetric slab wip w wi t d s p r x n ns m recon rec quick flair dark fluid t1"
    # places, purposes and order
    " brain head tumor tumour neuro nav navigation neuronav stealth brainlab gk gamma knife cyberknife srs tera plan"
    " planning protocol whole full cerebro cerebral crane cranio cranial cerveau encephale encefalo hersenen kopf"
    " schadel glowy glowa mozg hlava mozek beyin dtpa gabe rpt repeat rep new neu delayed late early min"
)
FAT = _set(
    "fs fat fatsat sat saturation saturacion sature grasa graisse spir spair moco asset grappa gap norm"
)  # "no fatsat" denies no agent

OTHER_WORDS = _set(
    "loc localizer localiser scout survey scano scanogram topogram cal calib dwi adc eadc trace dti diff tensor dyfuzja"
    " difuze fa perf pwi dsc dce asl pasl pcasl cbf cbv mtt tmax ttp rcbv ktrans swi swan swip hemo venobold tof mra"
    " mrv veno venous pca inhance trance bold fmri ep epi resting phase sub subs soustraction sustraccion sottrazione"
    " mip minip rho map maps mapping mapa mappa relaxometry molli dir stir psir ciss fiesta bssfp trufi fisp tricks"
    " twist dyn dynamic mrs svs csi mask label roi screen screenshot report inv magic symri synthetic qsm star stern"
    " medic fusion fused difference minus elasto fieldmap"
    # other parts of the body
    " spine cspine tspine lspine rachis wirbelsaule hws bws lws cervical lumbar thoracic neck hals cou cuello orbit"
    " orbits orbita orbite orbites iac iacs cai sella sellar pituitary hypophyse hypophysis hipofisis ipofisi petrous"
    " felsenbein rocher rochers tmj facial parotid larynx breast liver abdomen knee kregoslup columna kolumna"
)
OTHER_STEMS = ("calibr", "locali", "diffus", "difus", "perfus", "perfuz", "subtr", "angio", "segment", "spectro")
GRADIENT = _set("gre gr ge ffe fl flash gradient grad field")  # "T2 GRE" is T2*
T1_SEQUENCES = _set("mprage rage bravo spgr fspgr efgre vibe")
MOVED = _set("reg registered registration coreg coregistered aligned align warped resampled recale")

_AGENT = rf"(?:{AGENT.pattern})"
_SIGNED = r"(?:c|ce|gd|gad|gado|gadolinium|km|kl|mdc|iv|inj|contrast|kontrast|ку)"
_STEM = r"(?:mprage|mpr|bravo|fspgr|spgr|vibe|space|cube|flair|tse|fse|t1)"
_PREFIX = r"(?:pre|post|non|no|ohne|sans|sin|wo|nach|vor|mit|avec|con|without|with)"
_BEFORE_T = r"(?<![a-z])((?:ax|axial|sag|sagittal|cor|coronal|kor|tra|fs|fl|se|ss|tse|fse|ir|wip|hr|qt|r|s|e|v|m)?)"
LETTERS = str.maketrans("łıđ[]{}", "lid()()") | {ord("ß"): "ss", ord("æ"): "ae", ord("ø"): "oe"}
REWRITINGS = [  # applied in this order to text in lower case without accents
    (r"[_^]", " "),
    (r"т(?=[12])", "t"),  # a Cyrillic letter
    (r"[=:] ?(?:0|no?)(?!\w)", " unclear "),
    (r"mp2rage|mp[ -]rage", "mprage"),
    # T1 and T2 with what is written directly behind them
    (r"t1w?i?c(?![a-z]| ?[+(-])", "t1 ce "),
    (r"t1n(?![a-z])", "t1 native "),
    (r"t1 +w *$", "t1 unclear "),  # with or weighted?
    (r"(t[12])w(?=[a-z+(-])(?!ith|ip)", r"\1 w "),
    (r"t2 ?(?:w ?)?\*|t2s(?![a-z])", " t2 star "),
    (r"(?<![a-z])k\. ?([lm])\.?(?![a-z])", r"k\1"),
    # signs
    (r"\+ ?/ ?-|-/ ?\+|[?±]", " unclear "),
    (rf"(?<![a-z]){_SIGNED} ?\(\+\)|\(\+\) ?{_SIGNED}(?!\w)", " with contrast "),
    (rf"(?<![a-z]){_SIGNED} ?\(-\)|\(-\) ?{_SIGNED}(?!\w)", " without contrast "),
    (rf"(?<![a-z]){_SIGNED} ?\+(?![\w+])|\+ ?{_SIGNED}(?!\w)", " with contrast "),
    (rf"(?<![a-z]){_SIGNED}-(?!\w)|(?<=[ (])-c(?!\w)", " without contrast "),
    (rf"(?<=[ (])- ?{_SIGNED}(?!\w)|(?<=\w)-c(?!\w)", " unclear "),  # a hyphen or a minus?
    (r"\([+-]\)|(?<=t1)w? *\+|[+-] *$", " unclear "),  # a sign alone
    (r"(?<=\d)d(?=[a-z])", "d "),  # 3DT1
    (rf"{_BEFORE_T}(t[12])(?!\d)", r"\1 \2 "),
    # prepositions as single letters
    (r"(?<![a-z])i\.? ?v\.?(?![a-z])", "iv"),
    (r"(?<![a-z])w ?/ ?o(?![a-z])|(?<![a-z])w o(?![a-z])", " without "),
    (r"(?<![a-z])w ?/", " with "),
    (r"(?<![a-z])s ?/ ?c(?![a-z+])", " without contrast "),  # Spanish and Portuguese: sin, sem
    (rf"(?<![a-z])[su] ?[/.] ?(?={_AGENT}(?!\w))", " without "),  # s/ contraste, u/kontrast
    (rf"(?<![a-z])[cm] ?[/.] ?(?={_AGENT}(?!\w))", " with "),  # c/ contraste, m/kontrast
    (r"(?<![a-z])o\.? ?(?=km(?![a-z]))", " ohne "),
    (r"(?<![a-z])v\.? ?(?=km(?![a-z]))", " vor "),
    (r"(?<![a-z])[mn]\.? ?(?=km(?![a-z]))", " mit "),
    (r"(?<![a-z])s (?=kl(?![a-z])|kontrast(?:em|om|ni))", " with "),  # Czech and Slovak
    # words written together
    (rf"{_STEM}(?=(?:{_PREFIX}|{_AGENT}|native?)(?!\w))", r"\g<0> "),
    (rf"(?<![a-z])({_PREFIX})(?=(?:{_AGENT}|con|c|inj\w*)(?!\w))", r"\1 "),
]


@dataclass(frozen=True)
class Words:
    """What a text says.

    Attributes:
        kind: "T1", "T2" or "FLAIR"; "other" if it is none of them; None if no word says.
        contrast: "with", "without" or "unclear"; None if no word speaks of contrast agent.
    """

    kind: str | None
    contrast: str | None


@cache
def read_words(text: str) -> Words:
    """Read a series description or a protocol name.

    Example:
        >>> read_words("AX T1 SANS GADO")
        Words(kind='T1', contrast='without')
        >>> read_words("t1_mprage_sag_KM")
        Words(kind='T1', contrast='with')
        >>> read_words("AX T2 GRE")
        Words(kind='other', contrast=None)
    """
    words = _words(text)
    moved = next((place for place, word in enumerate(words) if word in ("to", "onto", "2")), 0)
    if _weightings(words[:moved]) and _weightings(words[moved:]):
        words = words[:moved]  # "FLAIR to T1": a FLAIR that was registered
    kind = _kind(words)
    return Words(kind, None if kind == OTHER else _contrast(words))


def _words(text: str) -> list[str]:
    """The words of a text in lower case without accents; signs such as +C are written out."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)  # T1wPost
    text = unicodedata.normalize("NFKD", text).lower()
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = text.translate(LETTERS)
    for pattern, replacement in REWRITINGS:
        text = re.sub(pattern, replacement, text)
    return re.findall(r"t[12](?!\d)|[^\W\d_]+|\d+|[+&/:;,]", text)


def _weightings(words: list[str]) -> set[str]:
    found = {word.upper() for word in words if word in ("t1", "t2")}
    found |= {"T1"} if T1_SEQUENCES & set(words) else set()
    fluid = "tirm" in words or "fluid" in words or any(word.endswith("flair") for word in words)
    return found | {"FLAIR"} if fluid else found


def _kind(words: list[str]) -> str | None:
    found, present = _weightings(words), set(words)
    if present & OTHER_WORDS or any(word.startswith(OTHER_STEMS) for word in words):
        return OTHER
    if {"T1", "T2"} <= found or (len(found) > 1 and "T1" in found and present & MOVED):
        return OTHER
    if "T1" in found:
        return "T1"  # also in "T1 FLAIR"
    if "FLAIR" in found:
        return "FLAIR"
    if "T2" in found:
        return OTHER if present & GRADIENT else None if "pd" in present else "T2"
    return OTHER if "pd" in present else None


def _contrast(words: list[str]) -> str | None:
    """What all the phrases say together: two that disagree are unclear."""
    claims: set[str | None] = set()
    used: set[int] = set()
    for short in (False, True):  # in "con gadolinio", "con" is a preposition; in "W/O CON" it is the agent
        for place, word in enumerate(words):
            if place in used or not (word in SHORT_AGENT if short else AGENT.fullmatch(word)):
                continue
            claim, places = _phrase(words, place)
            if not short or len(places) > 1:
                claims.add(ONE_WORD.get(word, claim))
                used |= places
    claims |= {_alone(words, place) for place in range(len(words)) if place not in used}
    claims -= {None}
    if len(claims) > 1 or (claims and REFUSED & set(words)):
        return UNCLEAR
    return next(iter(claims), None)


def _phrase(words: list[str], agent: int) -> tuple[str, set[int]]:
    """What the phrase that ends with an agent says, and the places of its words: "not after gad" is unclear."""
    says, places, place = set(), {agent}, agent - 1
    while place >= 0:
        word = words[place]
        if word in NEGATION | BEFORE:
            says.add(WITHOUT)
        elif word in AFTER | TOGETHER:
            says.add(WITH)
        elif word not in FILLER and not AGENT.fullmatch(word):
            break
        places.add(place)
        place -= 1
    following = words[agent + 1] if agent + 1 < len(words) else ""
    if following in SUFFIX:
        says = {SUFFIX[following]}
    elif not says and (_known(words[place]) if place >= 0 else True) and _known(following):
        says = {WITH}  # "T1 GAD"
    return (says.pop() if len(says) == 1 else UNCLEAR), places


def _known(word: str) -> bool:
    """Whether a word, or the end of the text, leaves the meaning of an agent next to it unchanged."""
    known = NEUTRAL | FAT | FILLER | BEFORE | AFTER | TOGETHER | NATIVE
    return not word or word.isdigit() or word in ":;," or word in known or AGENT.fullmatch(word) is not None


def _alone(words: list[str], place: int) -> str | None:
    """What a word says that belongs to no agent."""
    word, following = words[place], words[place + 1] if place + 1 < len(words) else ""
    if word == UNCLEAR:
        return UNCLEAR
    if word in NATIVE:
        return UNCLEAR if place and words[place - 1] in NEGATION else WITHOUT
    if following in OTHER_EVENT:
        return None
    if word in ("pre", "post"):
        later = words[place + 2] if place + 2 < len(words) else ""
        if (place and words[place - 1] in FRONT) or (following.isdigit() and later in PERIOD):
            return UNCLEAR
        return (WITHOUT if word == "pre" else WITH) if _known(following) else UNCLEAR
    if word in NEGATION:
        if following in FAT or (following.isdigit() and word == "no"):
            return None
        joined = place and words[place - 1] in TOGETHER | FILLER  # "T1 W/WO"
        return UNCLEAR if following or joined or word in ("no", "non", "not") else WITHOUT  # "T1 W/O"
    dangling = len(word) > 1 and word in AFTER | TOGETHER and not _known(following)  # "T1 po XYZ"
    return UNCLEAR if dangling or word in ALONE_UNCLEAR else None
