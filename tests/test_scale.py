"""docs/how-to/use-uk-biobanks-platform.md: the command that unpacks UK Biobank's archives."""

import json
import shutil
import zipfile

import pytest

from scripts.datalists import __main__ as datalists
from scripts.phantoms.cohort import make
from tests.support import bash_blocks, run_command


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_archives_are_unpacked_as_the_layout_of_uk_biobank(tmp_path):
    make("ukb", 2, str(tmp_path / "made"), spacing=4, workers=1)
    images = {name: content for name, content in files(tmp_path / "made").items() if name.endswith("_to_MNI.nii.gz")}
    for folder in (tmp_path / "made").glob("*_2025?_*"):
        name = "T1" if "_20252_" in folder.name else "T2 FLAIR"
        archive = tmp_path / "project/Bulk/Brain MRI" / name / folder.name[:2] / f"{folder.name}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*.nii.gz"):
                file.write(path, path.relative_to(folder))
            file.writestr("T1/T1.nii.gz", "what no training needs")
    (tmp_path / "project/Bulk/Brain MRI/T1/10").mkdir(exist_ok=True)
    (tmp_path / "project/Bulk/Brain MRI/T1/10/1000000_20251_2_0.zip").touch()  # a different field
    (script,) = (block for block in bash_blocks("docs/how-to/use-uk-biobanks-platform.md") if "unpack()" in block)
    assert script.count("/mnt/project/") == 2
    run_command(script.replace("/mnt/project/", f"{tmp_path}/project/"), tmp_path, {})
    assert files(tmp_path / "ukb") == images
    datalists.COMMANDS["ukb"](str(tmp_path / "ukb"), str(tmp_path / "ukb.json"), validation=0, testing="all")
    assert len(json.loads((tmp_path / "ukb.json").read_text())["testing"]) == len(images) / 2 == 2
