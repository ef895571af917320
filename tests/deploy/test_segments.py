"""DICOM segments of label maps."""

from common.data import regions
from deploy.segments import segments_of

CODED = "core=1+3:d1495b:6574001 SCT Necrosis,whole=1+2+3,cavity=7:C0-1 99LAB Cavity (old)"


def test_a_label_map_has_a_segment_for_each_region_outside_its_inner_regions():
    segments = [segment[:2] + segment[3:] for segment in segments_of(CODED)]
    core, cavity = (1, "core", "6574001 SCT Necrosis"), (7, "cavity", "C0-1 99LAB Cavity (old)")
    assert segments == [core, (2, "whole outside core", ""), cavity]
    assert [segment.value for segment in segments_of("whole=1+2,a=1,b=2")] == [1, 2], "whole is a and b"
    shown = {segment.colour for segment in segments_of(CODED)}
    assert shown == {*regions.colours(CODED).values()}
    long = ["x" * 39 + letter for letter in "abc"]
    text = f"{long[0]}=1+2+3,{long[1]}=1,{long[2]}=2"
    assert max(len(segment.label) for segment in segments_of(text)) == 64
