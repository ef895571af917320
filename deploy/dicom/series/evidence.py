"""Evidence on the modality of a series: name, times, header and injection.

Evidence is stated in predefined phrases, because messages and results show it; header text is never quoted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from common.errors import InputError
from scripts.prepare.volumes import Grid

from ..geometry import grid_of
from ..multiframe import ENHANCED_MR
from ..study import Series, values_of
from .words import NO_MODALITY, POST, UNCLEAR, WITH, WITHOUT, Names, Words, read_names, read_words

MR_IMAGES = {MRImageStorage, *ENHANCED_MR}
SAME_COSINE = 0.01  # localiser images differ by more, slices of a volume only by rounding
MIN_SLICES = 10  # localisers have fewer; clinical brain series with the thickest slices have about 20
OTHER_IMAGES = {  # in ImageType; from Philips: F, R and I (fat, real and imaginary images), OP (out of phase)
    *("LOCALIZER", "SUB", "MIP", "MINIP", "ADC", "DIFFUSION", "TRACEW", "PERFUSION", "PHASE", "PHASE MAP", "P"),
    *("T1 MAP", "T2 MAP", "MAP", "FA", "MOSAIC", "ANGIO", "SCREEN SAVE", "SYNTHETIC", "F", "FF", "FAT", "FAT_FRACTION"),
    *("R", "I", "REAL", "IMAGINARY", "OP", "OUT_PHASE", "OPP_PHASE", "OUT_OF_PHASE"),
}
OTHER_IMAGE_STEMS = ("SUBTR", "MAX_IP", "MIN_IP", "PROJECTION")  # such as SUBTRACTION_M, PROJECTION IMAGE
OTHER_NAMES = {  # image type -> pattern; a match rules out a series with unknown words in its name
    "diffusion": r"diff|dwi|dti|tensor|(?<![a-z])(?:adc|trace|b ?\d{3,4})(?![a-z])",
    "functional imaging": r"fmri|bold|resting|(?<![a-z])rs(?![a-z])",
    "perfusion": r"perf|(?<![a-z])(?:dsc|dce|p?c?asl|cbf|cbv)(?![a-z])",
    "susceptibility": r"(?<![a-z])(?:swi|swan|qsm|t2 ?\*|t2star)|venobold",
    "angiography": r"angio|(?<![a-z])(?:tof|mra|mrv)(?![a-z])",
    "spectroscopy": r"spectro|(?<![a-z])(?:svs|csi|mrs)(?![a-z])",
    "a localiser": r"localis|localiz|scout|survey|(?<![a-z])loc(?![a-z])",
}
HEAD_STEMS = ("HEAD", "BRAIN", "SKULL", "CRAN", "CEREB", "ENCEPH", "ENCEF", "KOPF", "SCHAEDEL", "NEURO")
NO_BODY_PART = {"", "UNKNOWN", "UNDEFINED", "OTHER", "NONE", "NA", "N/A"}
# Times in ms. Chosen from usual protocols: T1 has TE up to 30 (T1 FLAIR), T2 and FLAIR from 60. Fluid (T1 4.3 s) is
# nulled at TI = T1 ln(2 / (1 + exp(-TR / T1))): 1.8 s at TR 5 s, 2.5 s at 9 s; the limit leaves a margin below that.
LONG_ECHO, NULLS_FLUID, LONG_INVERSION = 45.0, 1200.0, 1500.0
SHORT_REPETITION = 1000.0  # shorter T2 are T2* or steady-state; spin echoes take at least 2 s
REFORMATS = {"MPR", "REFORMATTED", "RESAMPLED_MPR", "CPR"}
NO_AGENT = {"", "none", "no", "n", "0", "na", "n/a", "nil", "keine", "kein", "nein", "nessuno", "ninguno", "aucun"}
NO_AGENT |= {"geen", "brak", "unknown", "false", "-", "not applicable", "nihil", "yok", "ingen"}
NEAR, FAR = 60.0, 4 * 3600.0  # s from the injection: nearer is undecided, farther is an error or a different day
BRAIN_EXTENT = 120.0  # mm, smallest edge of a field of view that contains a brain (about 120 mm high)
UNKNOWN, SILENT = "part of its name is unknown", "neither its name nor its times show what it is"
CORRECTIONS = {"ND": 0, "NORM": 1, "DIS2D": 2, "DIS3D": 4}  # in ImageType, by Siemens; rank of the better image
TABLE = "name in the site's table"
CONTRADICTIONS = {source: f"its {source} and its times contradict each other" for source in ("name", TABLE)}
DOUBTS = {UNKNOWN, SILENT, *CONTRADICTIONS.values()}
ASK = "ask"  # in place of a modality, if the evidence on agent is weak or contradictory


@dataclass(frozen=True)
class Evidence:
    """Evidence whether a T1 was scanned with contrast agent; `clear` evidence is sufficient on its own."""

    says: str  # WITH, WITHOUT, POST or UNCLEAR
    clear: bool
    text: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """A series that may be chosen: its weighting (`kind`) and, for a T1, the evidence on contrast agent."""

    series: Series
    kind: str | None  # T1, T2 or FLAIR; None if unknown or a different image
    source: str  # source of the kind: "name", "times", "name and times" or TABLE; without a kind, the reason
    words: Evidence | None = None  # evidence of the name on contrast agent; UNCLEAR if part of the name is unknown
    is_volume: bool = True
    hint: bool = False  # some known words of the name state an agent, or "post"
    brain_grid: Grid | None = None  # grid of the series, if its field of view contains a brain
    agent: bool = False  # the header names a contrast agent
    acquired: float | None = None  # start of the scan, s; all series of a study share the clock
    injected: float | None = None  # start of the injection, s, on the same clock
    reformat: bool = False  # computed from a different series
    evidence: tuple[Evidence, ...] = ()  # on contrast agent; T1 only
    requested: bool = False
    note: str = ""  # for readers of the result

    @property
    def says(self) -> str | None:
        """Contrast agent by the series' name: WITH, WITHOUT, POST or UNCLEAR; None if the name does not mention it."""
        return None if self.words is None else self.words.says

    @property
    def contrast(self) -> str | None:
        """Contrast agent: WITH or WITHOUT if stated; UNCLEAR if evidence disagrees or only hints; None otherwise."""
        clear = {evidence.says for evidence in self.evidence if evidence.clear}
        hints = {evidence.says for evidence in self.evidence if not evidence.clear}
        if len(clear) == 1 and self.says != UNCLEAR and not (clear == {WITHOUT} and hints & {WITH, POST}):
            return clear.pop()
        return UNCLEAR if self.evidence else None

    @property
    def may_be_enhanced(self) -> bool:
        """Whether anything says that this T1 was scanned with contrast agent."""
        return self.hint or any(evidence.says in (WITH, POST) for evidence in self.evidence)

    @property
    def correction(self) -> int:
        """Rank of the scanner's corrections of distortion and intensity; 0 without."""
        return sum(CORRECTIONS.get(value, 0) for value in _image_types(self.series.header))

    @property
    def modality(self) -> str | None:
        """T1, T1ce, T2 or FLAIR; ASK for a T1 if contrast agent is unclear; None if the weighting is unknown."""
        if self.kind != "T1":
            return self.kind
        return {WITH: "T1ce", UNCLEAR: ASK}.get(str(self.contrast), "T1")

    @property
    def reason(self) -> str:
        """The evidence as text, in predefined phrases."""
        if self.requested:
            return "requested by --series"
        if self.kind is None:
            return self.source
        return ", ".join([f"{self.kind} by its {self.source}", *(evidence.text for evidence in self.evidence)])


def candidates_of(study: Sequence[Series], names: Names) -> list[Candidate]:
    """Return a `Candidate` for each series of a study, with its evidence; `names` is from `read_table`."""
    scans = [_candidate(series, names, why_no_volume(series)) for series in study]
    volumes = [scan for scan in scans if scan.is_volume]
    candidates = []
    for scan in scans:
        of_agent = (scan.words, _by_header(scan, volumes)) if scan.kind == "T1" else ()
        candidates.append(replace(scan, evidence=tuple(filter(None, of_agent))))
    return candidates


def _candidate(series: Series, names: Names, unusable: str = "") -> Candidate:
    """Return a candidate with the weighting, words and times in its headers; `unusable` is from `why_no_volume`."""
    if unusable:
        return Candidate(series, None, unusable, is_volume=False)
    header, brain_grid = series.header, _brain_grid(series)
    texts = read_names(header, names, brain_grid is not None)
    kind, source = kind_of(header, texts, brain_grid is not None)
    if kind is None:
        return Candidate(series, None, source)
    times = [time for instance in series.instances if (time := acquired_at(instance.header)) is not None]
    return Candidate(
        series,
        kind,
        source,
        words=_by_words(texts, kind),
        hint=any(words.contrast in (WITH, POST) for words in texts if words.kind == kind),
        brain_grid=brain_grid,
        agent=_names_agent(header),
        acquired=min(times, default=None),
        injected=_seconds(header, "ContrastBolusStartTime"),
        reformat=bool(REFORMATS & _image_types(header)),
    )


def _brain_grid(series: Series) -> Grid | None:
    """Return the grid of a series if its field of view contains a brain, else None."""
    try:
        grid, _ = grid_of([instance.header for instance in series.instances], series.name)
    except InputError:  # reported if the series is chosen
        return None
    return grid if (grid.spacing * grid.shape).min() >= BRAIN_EXTENT else None


def kind_of(header: Dataset, texts: Sequence[Words], covers_brain: bool = False) -> tuple[str | None, str]:
    """Return T1, T2 or FLAIR and the source that states it, or None and the reason; `texts` are from `read_names`.

    The first source that states a kind decides: the site's table, the words of the description, those of the protocol
    name and, if every word is known, the times. If a word is unknown, T2 and FLAIR need the times and a field of view
    that contains a brain (`covers_brain`) as proof; a T1 is unclear (`_by_words`).
    """
    words = next((words for words in texts if words.kind), None)
    by_times = _by_times(header)
    kind, source = (words.kind, TABLE if words.named else "name") if words else (by_times, "times")
    if words and words.kind == NO_MODALITY:
        return None, "the site's table leaves it out"
    unread = any(text.unread for text in texts if text is texts[0] or text.kind == kind or not words)
    if unread:
        if other := _other_name(header):
            return None, f"{other} by its name"
        if not words or (kind != "T1" and not (covers_brain and by_times == kind)):
            return None, UNKNOWN
        source = "name" if kind == "T1" else "name and times"
    if kind is None:
        return None, SILENT
    if other := _other_image(header, kind):
        return None, other
    if words and _contradicts(header, kind):
        return None, CONTRADICTIONS[source]
    return kind, source


def _by_words(texts: Sequence[Words], kind: str) -> Evidence | None:
    """Return what series description and protocol name say about contrast agent; None if they say nothing.

    UNCLEAR if a word is unknown, or if only the protocol name mentions an agent, as it may describe the whole study.
    The protocol name counts only if it names the same kind of series as `kind`.
    """
    description, protocol = texts
    says, same_kind = description.contrast, protocol.kind == kind
    if same_kind and protocol.contrast and says is None:
        says = UNCLEAR if description.kind and protocol.contrast == WITH else protocol.contrast
    elif same_kind and protocol.contrast and says != protocol.contrast:
        says = UNCLEAR
    if description.unread or (same_kind and description.contrast is None and protocol.unread):
        says = UNCLEAR
    if says is None:
        return None
    subject = "the site's table" if description.named else "its name"
    text = {WITH: "states contrast agent", WITHOUT: "states no contrast agent", POST: 'says only "post"'}
    return Evidence(says, says in (WITH, WITHOUT), f"{subject} {text.get(says, 'is unclear')}")


def _by_times(header: Dataset) -> str | None:
    """Return T1, T2 or FLAIR by echo, repetition and inversion time; None if times are missing or fit none of them."""
    echo, repetition, inversion = (number_of(header, f"{name}Time") for name in ("Echo", "Repetition", "Inversion"))
    if echo is None or repetition is None:
        return None
    if echo >= 60 and repetition >= 2000:
        return "FLAIR" if inversion is not None and inversion >= 1500 else "T2"
    inverted = inversion is not None and 300 <= inversion < 1500
    return "T1" if echo <= 15 and (inverted or 200 <= repetition <= 1000) else None


def _by_header(scan: Candidate, volumes: Sequence[Candidate]) -> Evidence | None:
    """Return the evidence from the agent in a T1's header, and from its time and the first injection of the study.

    Scanners keep an agent once it is entered. So an agent counts after the injection or, without times, if other T1
    (or the other series, for a single T1) have none.
    """
    injected = min((other.injected for other in volumes if other.injected is not None), default=None)
    if injected is not None and scan.acquired is not None and NEAR < abs(scan.acquired - injected) < FAR:
        if scan.acquired < injected:
            return Evidence(WITHOUT, True, "scanned before the injection")
        named = ", its header names an agent" if scan.agent else ""
        return Evidence(WITH, scan.agent, f"scanned after the injection{named}")
    if not scan.agent:
        return None
    others = [other for other in volumes if other is not scan]
    others = [other for other in others if other.kind == "T1"] or others
    if any(not other.agent for other in others):
        return Evidence(WITH, True, "its header names an agent")
    return Evidence(UNCLEAR, False, "its header names an agent, as those of all series do")


def is_same_scan(scan: Candidate, other: Candidate) -> bool:
    """Return whether two series are one acquisition, with different corrections by the scanner."""
    first, second = scan.series.header, other.series.header
    keywords = ("EchoTime", "RepetitionTime", "InversionTime", "FrameOfReferenceUID")
    neutral = {"ORIGINAL", "DERIVED", *CORRECTIONS}
    return (
        scan.acquired is not None
        and scan.acquired == other.acquired
        and all(first.get(keyword) == second.get(keyword) for keyword in keywords)
        and _image_types(first) - neutral == _image_types(second) - neutral
        and scan.correction != other.correction
    )


def why_no_volume(series: Series) -> str:
    """Return why a series cannot be a volume of a head, in a predefined phrase; empty if it can."""
    header = series.header
    classes, modalities = (
        {str(instance.header.get(word)) for instance in series.instances} for word in ("SOPClassUID", "Modality")
    )
    if classes - MR_IMAGES or modalities != {"MR"}:
        return "not MR"
    if any("LOCALI" in value for value in _image_types(header)):
        return "a localiser"
    if not any(instance.has_voxels for instance in series.instances):
        return "images without voxels"
    orientations = [values_of(instance.header, "ImageOrientationPatient") for instance in series.instances]
    positions = {tuple(values_of(instance.header, "ImagePositionPatient")) for instance in series.instances}
    if [] in orientations or () in positions:
        return "images without position or orientation"
    if not np.allclose(np.array(orientations, float), np.array(orientations[0], float), rtol=0, atol=SAME_COSINE):
        return "several orientations"
    return "" if len(positions) >= MIN_SLICES else f"too few positions ({len(positions)})"


def _other_name(header: Dataset) -> str:
    """Return the image type from `OTHER_NAMES` that description or protocol name states; empty if there is none."""
    text = " ".join(str(header.get(word) or "") for word in ("SeriesDescription", "ProtocolName")).lower()
    text = text.replace("_", " ")
    return next((other for other, pattern in OTHER_NAMES.items() if re.search(pattern, text)), "")


def _other_image(header: Dataset, kind: str) -> str:
    """Return why the image cannot be an anatomical head image of this kind, in a predefined phrase; empty if it can."""
    types = _image_types(header)
    if OTHER_IMAGES & types or any(value.startswith(OTHER_IMAGE_STEMS) for value in types):
        return "its image type is not that of a plain scan"
    if "subtr" in str(header.get("DerivationDescription") or "").lower():
        return "a subtraction"
    body = str(header.get("BodyPartExamined") or "").strip().upper()
    if body not in NO_BODY_PART and not any(stem in body for stem in HEAD_STEMS):
        return "it shows another part of the body"
    if header.get("AngioFlag") == "Y":
        return "angiography"
    sequence = {str(value) for value in values_of(header, "ScanningSequence")}
    if "EP" in sequence:
        return "echo-planar imaging"
    gradient = "GR" in sequence and "SE" not in sequence
    return "T2*, a gradient echo" if kind in ("T2", "FLAIR") and gradient else ""


def _contradicts(header: Dataset, kind: str) -> bool:
    """Return whether the echo, repetition or inversion time rules out the kind (T1, T2 or FLAIR) that a name states."""
    echo, inversion = number_of(header, "EchoTime"), number_of(header, "InversionTime")
    if echo is not None and echo > 0 and (echo >= LONG_ECHO) != (kind in ("T2", "FLAIR")):
        return True
    repetition = number_of(header, "RepetitionTime")
    if kind in ("T2", "FLAIR") and repetition is not None and 0 < repetition < SHORT_REPETITION:
        return True
    if inversion is None or inversion <= 0:
        return False
    return inversion < NULLS_FLUID if kind == "FLAIR" else inversion >= LONG_INVERSION if kind == "T2" else False


def number_of(header: Dataset, keyword: str) -> float | None:
    """Return a DICOM attribute as a number; None if the attribute is missing or empty."""
    value = header.get(keyword)
    return None if value in (None, "") else float(value)


def _image_types(header: Dataset) -> set[str]:
    return {str(value).strip().upper() for value in values_of(header, "ImageType")}


def _names_agent(header: Dataset) -> bool:
    text = str(header.get("ContrastBolusAgent") or "").strip().lower()
    return text not in NO_AGENT and read_words(text).contrast != WITHOUT


def acquired_at(header: Dataset) -> float | None:
    """Return when an image was acquired, in seconds since the year 1; None if the header states no valid time.

    ContentTime counts only for original images, because converters and workstations overwrite it.
    """
    stamp = str(header.get("AcquisitionDateTime") or "")
    if re.match(r"\d{14}", stamp):
        return _clock(stamp[:8], stamp[8:])
    original = "ORIGINAL" in _image_types(header)
    keyword = "AcquisitionTime" if header.get("AcquisitionTime") or not original else "ContentTime"
    return _seconds(header, keyword)


def _seconds(header: Dataset, keyword: str) -> float | None:
    return _clock(str(header.get("AcquisitionDate") or header.get("StudyDate") or ""), str(header.get(keyword) or ""))


def _clock(day: str, time: str) -> float | None:
    """Convert a DICOM date and time to seconds since the year 1; None if invalid. Minutes and seconds are optional."""
    clock = re.match(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d+)?)?", time.strip())
    try:
        days = date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal()
    except ValueError:
        return None
    if not clock:
        return None
    hours, minutes, seconds = (float(part or 0) for part in clock.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds
