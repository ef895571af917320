"""One module reads NIfTI headers, and all readers and writers agree on the position of a voxel."""

import gzip
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, the field's name for it
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from monai.data import decollate_batch, list_data_collate
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from common.errors import InputError
from common.files import write_json
from scripts.prepare.cohort import send_back
from scripts.prepare.settings import RECORD
from scripts.prepare.volumes import read_volume, source_record
from tests.bundles.workflows import untrained, workflow
from tests.oracles import nifti

SHAPE, MARK = (20, 24, 18), (slice(5, 9), slice(15, 18), slice(3, 6))
CENTRE = [6.5, 16, 4]  # of the mark, in voxels
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNSET = {"pixdim": [0, 3, 3, 3], "quatern": [0, 0, 0], "qoffset": [10, 20, 30]}  # the qform's sign, pixdim[0]
STEEP, SLIGHT = 0.04, 0.004  # shears that scripts.prepare refuses and accepts


def head():
    """Return a volume [x, y, z] of noise in air, with a bright mark at one side."""
    voxels = np.zeros(SHAPE, np.float32)
    voxels[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).uniform(100, 900, [edge - 4 for edge in SHAPE])
    voxels[MARK] = 2000
    return voxels


@st.composite
def scans(draw):
    """Draw the codes of qform and sform, the sform's shear, and other fields of a scan's header."""
    order, flips = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    edges = np.float32(draw(st.tuples(*[st.sampled_from([3.0, 3.5, 3.90625])] * 3)))
    turn = Rotation.from_euler("xyz", draw(st.sampled_from([(0, 0, 0), (0, 0, 10), (5, -20, 8)])), degrees=True)
    directions = turn.as_matrix() @ (np.eye(3)[:, order] * flips)
    place, shear, moved = np.eye(4), np.eye(4), np.eye(4)
    place[:3, :3], place[:3, 3] = directions * edges, draw(st.tuples(*[st.integers(-150, 150)] * 3))
    shear[0, 1] = draw(st.sampled_from([0, SLIGHT, STEEP]))
    if draw(st.booleans()):
        moved[:3, :3] = Rotation.from_euler("z", 10, degrees=True).as_matrix()
        moved[:3, 3] = 5, -40, 12
    qfac = np.sign(np.linalg.det(directions))
    *quatern, real = Rotation.from_matrix(moved[:3, :3] @ directions * [1, 1, qfac]).as_quat()
    codes = draw(st.sampled_from([(0, 0), (1, 0), (2, 0), (0, 4), (1, 1), (2, 1), (1, 4), (3, 2)]))
    qfac = draw(st.sampled_from([0, 1])) if qfac > 0 else qfac
    rounded = edges * draw(st.sampled_from([1, 1 + 4e-5, 1 - 4e-5, 1.004]))
    fields = {"pixdim": [qfac, *rounded], "quatern": np.array(quatern) * (1 if real >= 0 else -1)}
    fields |= {"qoffset": (moved @ place)[:3, 3], "sform": shear @ place, "units": draw(st.sampled_from([0, 2, 10]))}
    return codes, shear[0, 1], fields


def by_simpleitk(path):
    """Return the affine (RAS, mm) that SimpleITK reads; None if it refuses the file."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:  # axes are not at right angles
        return None
    edges = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (edges, edges)) * image.GetSpacing())[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return LPS @ affine


def agrees(codes, shear, content):
    """Return whether SimpleITK reads our positions, up to a rounded pixdim: with one usable form, or two equal ones."""
    qform_code, sform_code = codes
    if not sform_code:
        return qform_code > 0
    same = np.allclose(nifti.qform(content), nifti.sform(content), atol=0.1)
    return not shear and (not qform_code or sform_code == 1 or same)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Return a function that writes the label map of a scan's mark by the transforms of inference.yaml."""
    folder = tmp_path_factory.mktemp("results")
    model = untrained("atlas_finetune", folder / "model.pt")
    options = {"dataset_dir": str(folder), "datalist": "null", "checkpoint": model}
    parser = workflow("atlas_finetune", "inference", folder, folder / "out", **options).parser
    before, after = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))

    def segment(path):
        item = before({"subject": "P", "image": [str(path)]})
        item["pred"] = 40 * (item["image"] == item["image"].max()).as_tensor().float() - 20  # logits
        (result,) = decollate_batch(list_data_collate([item]))
        after(result)
        return folder / "out/P.nii.gz"

    return segment


def sent_back(folder, scan):
    """Resample the mark from an upright 1.5 mm grid to the scan's grid by `scripts.prepare back`; return the file."""
    affine = nifti.affine(scan.read_bytes())
    corners = apply_affine(affine, list(product(*((0, edge - 1) for edge in SHAPE))))
    upright = np.diag([1.5, 1.5, 1.5, 1])
    upright[:3, 3] = corners.min(axis=0)
    shape = np.ceil(np.ptp(corners, axis=0) / 1.5).astype(int) + 1
    voxels = apply_affine(np.linalg.inv(affine) @ upright, np.indices(shape).reshape(3, -1).T)
    low, high = ([getattr(side, end) for side in MARK] for end in ("start", "stop"))
    inside = ((voxels > np.array(low) - 0.5) & (voxels < np.array(high) - 0.5)).all(axis=1).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), upright), folder / "P.nii.gz")
    record = {"subject": "P", "reference": "T1", "sources": {"T1": source_record(scan, read_volume(scan).grid)}}
    record |= {"figures": {"reference": "T1", "subject": {}, "modalities": {}}}
    record |= {"grid": {"shape": shape.tolist(), "affine": upright.tolist()}}
    (folder / "P").mkdir()
    write_json(folder / "P" / RECORD, record | {"transforms": {"T1": {"matrix": np.eye(4).tolist()}}})
    send_back(folder / "P.nii.gz", "P", folder, folder / "back", None)
    return folder / "back/P.nii.gz"


def check_result(path, file, content, codes):
    """Check that a label map has the bits of its scan's forms, and the mark at the scan's position."""
    result = gzip.decompress(path.read_bytes())
    if any(codes):
        assert nifti.forms(result) == nifti.forms(content)
        ours, theirs = by_simpleitk(path), by_simpleitk(file)
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)
    else:
        assert nifti.read(result, "codes").tolist() == [2, 2]
        np.testing.assert_allclose(nifti.qform(result), nifti.affine(content), atol=1e-4)
    np.testing.assert_allclose(nifti.affine(result), nifti.affine(content), atol=1e-4)
    marked = np.argwhere(nibabel.load(path).get_fdata() == 1)
    np.testing.assert_allclose(marked.mean(axis=0), CENTRE, atol=0.3)
    assert len(marked) == pytest.approx(36, abs=12)


@settings(max_examples=24, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])  # no shrinking
@given(scan=scans())
@example(scan=((1, 0), 0.0, UNSET))
def test_a_voxel_lies_in_one_place_for_every_reader_and_writer(pipeline, scan):
    codes, shear, fields = scan
    content = nifti.written(head(), codes=codes, **fields)
    place = nifti.affine(content)
    with TemporaryDirectory() as name:
        file = Path(name, "P_T1.nii")
        file.write_bytes(content)
        np.testing.assert_allclose(nibabel.load(file).affine, place, atol=1e-4)
        if agrees(codes, shear, content):
            np.testing.assert_allclose(by_simpleitk(file) @ [*CENTRE, 1], place @ [*CENTRE, 1], atol=0.4)
        check_result(pipeline(file), file, content, codes)
        if not any(codes) or (codes[1] and shear == STEEP):
            with pytest.raises(InputError, match=r"sheared axes|sform_code and qform_code are 0"):
                read_volume(file)
        else:
            check_result(sent_back(Path(name), file), file, content, codes)
