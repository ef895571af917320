"""The card in docs/how-to/add-a-bundle.md makes every command recognise a new cohort."""

import json
import re
import sys

from tests.support import ROOT, copy_of_the_repository, execute

ASK = """
from pathlib import Path
from common.data.cohorts import COHORTS
from common.data.layouts.listing import list_images
from common.data.layouts.names import Naming
from common.data.layouts.reading import recognised
from common.data.regions import segments_of
from common.metrics.protocols import check_convention
from common.prepare.settings import Settings
from scripts.segment import LIKE
check_convention("isles", "wmh")
folder = recognised(list_images("wmh"), Naming())
facts = Settings("wmh", ("T1",)).grid.shape, segments_of("wmh")[0].label, LIKE["wmh_finetune"]
print([*folder.subjects], folder.convention, *facts)
"""


def test_a_card_is_all_that_commands_need_of_a_cohort(tmp_path):
    copy = copy_of_the_repository(tmp_path)
    (card,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/add-a-bundle.md").read_text(), re.DOTALL)
    card = card.replace("FLAIR", "DWI").replace('protocol="isles"', 'protocol="isles", contrasts={"DWI": "FLAIR"}')
    (copy / "common/data/cohorts/wmh.py").write_text(re.sub(r"^   ", "", card, flags=re.MULTILINE))
    make = ["scripts.phantoms", "make", "--layout=wmh", "--subjects=2", "--spacing=4", "--output=wmh", "--workers=1"]
    write = ["scripts.datalists", "wmh", "--root=wmh", "--output=wmh.json", "--testing=all"]
    for command in (["-m", *make], ["-m", *write], ["-c", ASK]):
        ended = execute([sys.executable, *command], copy)
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "['sub-01', 'sub-02'] wmh (197, 233, 189) White matter hyperintensity wmh\n"
    content = json.loads((copy / "wmh.json").read_text())
    assert (content["modalities"], content["label_convention"]) == (["T1", "DWI"], "wmh")
    images = [f"sub-01/pre/{kind}.nii.gz" for kind in ("T1", "DWI")]
    assert content["testing"][0] == {"subject": "sub-01", "image": images, "label": "sub-01/wmh.nii.gz"}
