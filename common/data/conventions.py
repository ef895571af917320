"""The label conventions of the cohorts: regions, label values, colours and codes."""

from collections.abc import Mapping
from typing import NamedTuple

# Okabe and Ito, Color Universal Design, 2008: distinct with every kind of colour vision
VERMILION, SKY, YELLOW, BLUE, PURPLE, ORANGE = "#d55e00", "#56b4e9", "#f0e442", "#0072b2", "#cc79a7", "#e69f00"


class Region(NamedTuple):
    """A region of a label convention.

    Attributes:
        labels: Label values.
        colour: Colour in pictures, #rrggbb.
        code: What the region is, outside its inner regions: value, scheme and meaning of a code, such as
            `79654002 SCT Edema`.
        part: Name of this part in DICOM, if not the region's.
    """

    labels: frozenset[int]
    colour: str
    code: str = ""
    part: str = ""


NCR = "6574001 SCT Necrosis", "Necrotic tumour core (NCR)"
ED = "79654002 SCT Edema", "Peritumoural oedema (ED)"
ET = "108369006 SCT Neoplasm", "Enhancing tumour (ET)"

# Regions in channel order, those of the bundle first; overlapping regions are nested, 0 is background
CONVENTIONS: Mapping[str, Mapping[str, Region]] = {
    "atlas": {"lesion": Region(frozenset({1}), VERMILION, "55641003 SCT Infarct", "Stroke lesion")},
    "brats2021": {  # channels in the order of SwinUNETR's outputs
        "TC": Region(frozenset({1, 4}), YELLOW, *NCR),
        "WT": Region(frozenset({1, 2, 4}), SKY, *ED),
        "ET": Region(frozenset({4}), VERMILION, *ET),
    },
    "brats2023": {
        "TC": Region(frozenset({1, 3}), YELLOW, *NCR),
        "WT": Region(frozenset({1, 2, 3}), SKY, *ED),
        "ET": Region(frozenset({3}), VERMILION, *ET),
    },
    "brats2024": {  # glioma after treatment: 1 NETC, 2 SNFH, 3 ET, 4 RC (de Verdier et al., 2024)
        "TC": Region(frozenset({1, 3}), YELLOW),
        "WT": Region(frozenset({1, 2, 3}), SKY),
        "ET": Region(frozenset({3}), VERMILION, *ET),
        "RC": Region(frozenset({4}), BLUE),  # resection cavity
    },
    "brats2024peds": {  # paediatric: 1 ET, 2 NET, 3 CC, 4 ED (Fathi Kazerooni et al., 2024)
        "TC": Region(frozenset({1, 2, 3}), YELLOW),
        "WT": Region(frozenset({1, 2, 3, 4}), SKY),
        "ET": Region(frozenset({1}), VERMILION, *ET),
        "CC": Region(frozenset({3}), BLUE),  # cystic component
    },
}
