"""Words in series names, grouped by meaning.

All are lower case without accents, as in `series_words.py`. A T1 with a word outside these lists needs proof, because
the word may refer to contrast agent.
"""

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGENT = re.compile(  # contrast agents and their abbreviations; "ку" is Russian for enhancement
    r"gd|gad|dtpa|gado\w*|gbca|gadavist|dotarem|clariscan|magnevist|multihance|prohance|omniscan|primovist|eovist|elucirem"
    r"|vueway|artirem|optimark|vasovist|ivkm|km|kontr|kontras\w*|contr|contrast\w*|tehoste\w*|mdc|pdc|sdc|ce"
    r"|inject?ee?s?|контр|контраст\w*|гадо\w*|ку"
)
SHORT_AGENT = _set(  # count only after "post" and the like: alone, "cont" may mean continued, "kl" small
    "c con cont cm iv inj injection injektion civ kl enh enhanced enhancement enhance realce wzmocnienie wzmocnieniem"
    " wzmocnienia rehaussement anreicherung"
)
NEGATION = _set(
    "no non not nil never none without wo sans pas sin sine senza ohne kein keine nicht zonder geen niet sem bez nie"
    " brak uten uden utan ikke inte ej ilman fara yok без не нет"
)
BEFORE = _set("pre pra before prior vor avant antes prima voor przed pred foer fore innan inainte до перед пре пред")
AFTER = _set("post after following nach apres despues tras dopo na po efter etter apos pos dupa после пост")
TOGETHER = _set("with w mit avec con com met med z ze cu с")
SUFFIX = {"oncesi": "without", "free": "without", "sonrasi": "with", "jalkeen": "with"}  # Turkish and Finnish suffixes
ONE_WORD = {"kontrastsiz": "without", "kontrastli": "with"}  # Turkish
ONE_WORD |= dict.fromkeys(["kontrastfri", "kontrastfritt", "kontrastfrei", "kontrastlos", "contrastless"], "without")
NOT_GIVEN = ("fri", "fritt", "frei", "free", "less", "los", "loos", "siz", "ton")  # word endings, likewise
NATIVE = _set(
    "nativ native natif natives natifs nativa nativo nativt natywny natywna natywne natywnie nativni nativne unenhanced"
    " nonenhanced noncontrast plain blanco basale simple натив нативный нативная"
)
GIVING = _set(  # implies an agent without naming it
    "podaniu podaniem podani administration administracion gabe bolus dose mezzo medio produit srodka srodkiem latky"
    " latkou agent media medium введения введение введением delayed late early min mins minutes"
)
FILLER = GIVING | _set(  # before the agent, as in "po podaniu kontrastu", "senza mezzo di contrasto"
    "iv i v de du la le el il l the d di des any of"
    " injection inj injektion meio and und et y e en oraz og och ve or oder ou o to + & / и"
)
OTHER_EVENT = _set(  # events, as in "post op"
    "proc process processed processing op ops operative operativ operatively operatoire operatorio opera surgery"
    " surgical surg resection biopsy rt xrt radiation radiotherapy chemo treatment treat tx therapy therapie fossa"
    " trauma traumatic ictal stim stimulation dbs lit litt sat satur pituitary exercise medication partum stroke"
    " operation embolization embolisation infarct shunt"
)
EVENT_ENDINGS = ("ectomy", "otomy", "ectomie", "ektomie", "ectomia", "plasty")  # lobectomy, craniotomy
HEAD = _set("brain head tumor tumour neuro glioma cranial intracranial lesion")  # "post tumor resection"
PURPOSE = _set("srs gk gamma knife cyberknife recon rec")  # "post SRS": after surgery or for planning
REFUSED = _set(
    "refused declined failed cancelled canceled aborted omitted skipped missing extravasation paravasat refus abgelehnt"
    " abgebrochen entfallen rifiutato rechazado"
)
REFUSED_STEMS = ("suspen", "verweiger", "annul", "odmow", "weiger")
FRONT = _set("ant anterior ap posterior")  # "ant post" are directions
PERIOD = _set(  # "post 24 h"
    "h hr hrs hours day days tag tage week weeks month months mo mnd year years yr j jours"
)
FAT = _set(
    "fs fat fatsat sat saturation saturacion sature grasa graisse fettsattigung spir spair moco asset grappa gap norm"
)  # "no fatsat" does not deny an agent
NEUTRAL = _set(  # words next to an agent that leave its meaning unchanged
    # planes
    "ax axi axl axial axiale axiaal axiales aksial sag sagit sagittal sagital sagittale saggital cor coronal coronale"
    " kor koronar koronal tra trans transv transverse transversal"
    " transversaal transversale transaxial obl oblique oax osag ocor"
    " dorsal plane planes ortho multiplanar акс аксиальный саг сагиттальный кор корональный"
    # sequences
    " se tse fse tfe ffe ge gre gr eg fl tfl fast"
    " turbo ir mprage memprage mpr mp rage bravo spgr fspgr efgre vibe space"
    " spc cube vista view brainview thrive ethrive flash lava mdixon dixon blade propeller multivane starvibe bb isir"
    " spin echo eco gradient inversion recovery magnetization prepared rapid acquisition sequence seq ti te tr"
    " pf wipcs hr hires highres res resolution high low thin thick"
    " iso isotropic isotrop mm fs fatsat fat sat sf spir spair supp"
    " suppressed suppression grappa ipat sense cs asset arc sms pat caipi wave compressed accelerated acc accel speed"
    " deep dl air drb moco motion correction corrected promo ref norm normalized normalised nd dis distortion fil filt"
    " filter filtered pure clear scic prescan uni den flow comp weighted weight wt gewichtet pondere ponderee ponderado"
    " ponderada pesata image images volume volumetric vol slab slice slices wip w wi t d s r x ns recon rec quick flair"
    " dark fluid tirm tir t1 t2 coil ch channel fov avg nex nsa te tr bw opt optimized optimised standard std routine"
    " default basic short long rms diretta"
    # places, purposes and order
    " brain head tumor tumour glioma neuro nav navi navigation neuronav stealth brainlab gk gamma knife cyberknife srs"
    " tera plan planning protocol whole full wholebrain"
    " cerebro cerebral crane cranio cranial cerveau encephale encefalo"
    " hersenen kopf schadel glowy glowa mozg hlava mozek beyin голова"
    " мозг rpt repeat rep new neu preop postop intraop control controle controllo"
    " kontrolle kontroll kontrola kontrol контроль follow up fu followup"
    " verlauf baseline scan mr mri mrt irm rm exam study research adni ppmi"
    " processed captk ca ptk brats bra ts sys"  # CaPTk and BraTS, also in two words
)
DIXON = _set("dixon mdixon ideal flex")  # their fat images are not T1
MOVED = _set("reg registered registration coreg coregistered aligned align warped resampled recale")
GRADIENT = _set(  # "T2 GRE" is T2*; in French EG
    "gre gr ge ffe fl flash eg gradient gradiente gradientes grad field merge"
)
PROTON_DENSITY = _set("pd dp proton protons dual")  # in French and Spanish DP
T1_SEQUENCES = _set("mprage memprage rage bravo spgr fspgr efgre vibe")
OTHER_WORDS = _set(
    "loc localizer localiser scout survey scano scanogram topogram cal calib dwi adc eadc dti diff tensor dyfuzja"
    " difuze fa perf pwi dsc dce asl pasl pcasl cbf cbv mtt"
    " tmax ttp rcbv ktrans auc iauc ratio swi swan swip hemo haemo"
    " venobold tof mra mrv veno venous pca inhance trance bold fmri ep epi resting phase sub subs resta kivonas"
    " mip minip rho map maps mapping mapa mappa relaxometry molli dir stir psir ciss fiesta bssfp trufi fisp tricks"
    " twist dyn mrs svs csi mask label roi screen screenshot report inv magic symri synthetic qsm star stern color"
    " colour kolor couleur medic fusion fused difference minus elasto fieldmap"
    # body parts except the head
    " spine spinal cspine tspine lspine rachis vertebral vertebra wirbelsaule hws bws lws hwk bwk lwk col columna"
    " cerv cervical cervicale lumbar lumbal lumbale lombaire lombare lombar thoracic thoracique sacrum sacral sakral"
    " servikal lomber torakal omurga boyun szyja szyi szyjny ledzwiowy kregoslup kolumna krk pater rygg ryg hals neck"
    " nek cou cuello collo шея позвоночник orbit orbits orbita orbite orbites iac iacs cai sella sellar pituitary"
    " hypophyse hypophysis hipofisis ipofisi petrous felsenbein rocher rochers tmj facial parotid larynx breast liver"
    " abdomen knee"
)
OTHER_STEMS = (
    *("calibr", "locali", "diffus", "difus", "perfus", "perfuz", "angio", "segment", "spectro", "trace"),
    *("subtr", "soustr", "sustr", "sottr", "odejm", "restad", "differen", "diferen", "субтр", "вычит"),
    *("dynam", "dinam", "parametr", "projec", "projek", "proyec", "halswirb", "lendenwirb", "brustwirb"),
)
ALONE_UNCLEAR = (SHORT_AGENT | BEFORE | AFTER | TOGETHER | {"unclear", "+"}) - _set("pre post w z s с")
SIGNS = ":;,+&/"
READ = (  # all known words
    *(SHORT_AGENT | NEGATION | BEFORE | AFTER | TOGETHER | SUFFIX.keys() | ONE_WORD.keys() | NATIVE | FILLER | FAT),
    *(DIXON | OTHER_EVENT | HEAD | PURPOSE | REFUSED | FRONT | PERIOD | NEUTRAL | MOVED | GRADIENT | PROTON_DENSITY),
    *(OTHER_WORDS | T1_SEQUENCES | {"unclear", "for"}),
)
_READ = frozenset(READ)


def is_agent(word: str) -> bool:
    """Whether a word alone names contrast agent."""
    return AGENT.fullmatch(word) is not None and (word in ONE_WORD or not word.endswith(NOT_GIVEN))


def is_event(word: str) -> bool:
    """Whether "pre" or "post" before this word refers to an event other than contrast agent."""
    return word in OTHER_EVENT or word.endswith(EVENT_ENDINGS)


def is_refusal(word: str) -> bool:
    """Whether a word may state that no agent was given."""
    return word in REFUSED or word.startswith(REFUSED_STEMS)


def is_other_image(word: str) -> bool:
    """Whether a word rules out T1, T2 and FLAIR of the head."""
    return word in OTHER_WORDS or word.startswith(OTHER_STEMS)


def is_neutral(word: str) -> bool:
    """Whether a word (or the end of the text) next to an agent leaves its meaning unchanged."""
    if not word or word.isdigit() or word in ":;," or is_agent(word):
        return True
    return word in NEUTRAL | FAT | FILLER | BEFORE | AFTER | TOGETHER | NATIVE


def is_read(word: str) -> bool:
    """Whether a word is in one of the lists, a number or a sign."""
    if word in _READ or word.isdigit() or word in SIGNS or word.endswith("flair"):
        return True
    return is_agent(word) or is_event(word) or is_refusal(word) or is_other_image(word)
