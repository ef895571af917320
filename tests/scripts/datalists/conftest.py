"""Folders to fill with files, and the command on one of them."""

import json

import nibabel
import numpy as np
import pytest

from scripts.datalists import __main__ as datalists
from tests.scripts.datalists.cohorts import subjects, touch


class Folder:
    """A data set of files that are empty, but for its label maps."""

    def __init__(self, folder):
        self.root, self.folder = folder / "data", folder
        self.root.mkdir()

    def touch(self, *files):
        touch(self.root, *files)

    def label(self, file, *values):
        """A label map of some values."""
        self.touch(file)
        voxels = np.zeros((2, 3, 8), np.int16)
        voxels[0, 0, : len(values)] = values
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), self.root / file)

    def write(self, name, text):
        """A file beside the data, such as one of regions; returns its path."""
        (self.folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return str(self.folder / name)

    def scan(self, **options):
        """The datalist."""
        datalists.generic(str(self.root), str(self.folder / "list.json"), **{"workers": 1} | options)
        return json.loads((self.folder / "list.json").read_text())

    def entries(self, **options):
        """Subject -> entry, of all splits."""
        content = self.scan(**{"testing": "all"} | options)
        return {entry["subject"]: entry for split in subjects(content) for entry in content[split]}


@pytest.fixture
def data(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    return folder
