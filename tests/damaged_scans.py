"""A small case of three images and a label, and ways to damage its files, one at a time."""

import gzip

import nibabel
import numpy as np

SHAPE = (10, 12, 8)
CASE = {"subject": "s", "image": ["flair.nii.gz", "t1.nii.gz", "t2.nii.gz"], "label": "seg.nii.gz"}


def brain(seed=0):
    """A block of 6 x 8 x 4 voxels from 200 to 900 in a background of 0."""
    volume = np.zeros(SHAPE, np.int16)
    volume[2:8, 2:10, 2:6] = np.random.default_rng(seed).integers(200, 901, (6, 8, 4))
    return volume


def lesion(*values):
    volume = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        volume[3 + place, 4, 3] = value
    return volume


def save(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)


def write_case(folder):
    """Write the files of `CASE`, all sound, with labels of BraTS 2021."""
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed))
    save(folder / "seg.nii.gz", lesion(1, 2, 4))
    return folder


def absolute(folder, case=CASE):
    files = {"image": [str(folder / file) for file in case["image"]]}
    return {**case, **files, **({"label": str(folder / case["label"])} if "label" in case else {})}


def shifted(distance):
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[1, 3] = distance
    return affine


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def break_checksum(path):
    """A gzip file of the right length whose content is not what its checksum says."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


def set_header(path, place, kind, *values):
    """Write numbers into a header, at the place that the format says."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    written = np.array(values, kind).tobytes()
    content[place : place + len(written)] = written
    path.write_bytes(gzip.compress(content))


HEADERS = {  # damage to the folder; check, file, and part of the message
    "missing": (lambda f: (f / "t1.nii.gz").unlink(), "missing", "t1.nii.gz", "no such file; expected a file"),
    "no image": (lambda f: (f / "t1.nii.gz").write_bytes(b"no image"), "unreadable", "t1.nii.gz", "expected a NIfTI"),
    "empty file": (lambda f: (f / "t1.nii.gz").write_bytes(b""), "unreadable", "t1.nii.gz", "expected a NIfTI"),
    "a folder": (
        lambda f: ((f / "t1.nii.gz").unlink(), (f / "t1.nii.gz").mkdir()),
        "missing",
        "t1.nii.gz",
        "no such file",
    ),
    "truncated": (lambda f: cut(f / "t2.nii.gz"), "unreadable", "t2.nii.gz", "Compressed file ended before"),
    "last byte": (lambda f: cut(f / "seg.nii.gz", 0.999), "unreadable", "seg.nii.gz", "Compressed file ended before"),
    "ends in zeros": (
        lambda f: (cut(f / "t2.nii.gz"), (f / "t2.nii.gz").open("ab").write(bytes(99))),
        "unreadable",
        "t2.nii.gz",
        "expected a file that can be read to its end",
    ),
    "too short inside": (
        lambda f: (f / "t2.nii.gz").write_bytes(gzip.compress(gzip.decompress((f / "t2.nii.gz").read_bytes())[:-2])),
        "unreadable",
        "t2.nii.gz",
        "2270 of 2272 bytes",  # 352 and 10 x 12 x 8 of 2
    ),
    "2D": (lambda f: save(f / "t1.nii.gz", brain()[..., 3]), "dimensions", "t1.nii.gz", "shape 10 x 12; expected"),
    "4D": (
        lambda f: save(f / "t1.nii.gz", np.stack([brain(), brain()], -1)),
        "dimensions",
        "t1.nii.gz",
        "shape 10 x 12 x 8 x 2; expected three dimensions",
    ),
    "shape": (
        lambda f: save(f / "flair.nii.gz", brain()[:, :, :-1]),
        "shape",
        "flair.nii.gz",
        "shape 10 x 12 x 7; expected 10 x 12 x 8, that of t1.nii.gz",
    ),
    "label's shape": (lambda f: save(f / "seg.nii.gz", lesion(1)[1:]), "shape", "seg.nii.gz", "shape 9 x 12 x 8"),
    "a one more": (
        lambda f: save(f / "t1.nii.gz", brain(1)[..., None]),
        "shape",
        "t1.nii.gz",
        "shape 10 x 12 x 8 x 1; ",
    ),
    "affine": (
        lambda f: save(f / "t2.nii.gz", brain(2), shifted(7.5)),
        "affine",
        "t2.nii.gz",
        "affine differs by up to 7.5 mm; expected that of flair.nii.gz",
    ),
    "first affine": (lambda f: save(f / "flair.nii.gz", brain(), shifted(0.01)), "affine", "flair.nii.gz", "0.01 mm"),
    "label's affine": (lambda f: save(f / "seg.nii.gz", lesion(1), shifted(9)), "affine", "seg.nii.gz", "9 mm"),
    "singular": (lambda f: set_header(f / "t1.nii.gz", 312, "<f4", *4 * [0]), "affine", "t1.nii.gz", "be inverted"),
    "affine of NaN": (lambda f: set_header(f / "t1.nii.gz", 280, "<f4", np.nan), "affine", "t1.nii.gz", "be inverted"),
    "complex": (
        lambda f: set_header(f / "t1.nii.gz", 70, "<i2", 32, 64),
        "type",
        "t1.nii.gz",
        "type complex64; expected",
    ),
    "negative edge": (
        lambda f: set_header(f / "t1.nii.gz", 42, "<i2", -5),
        "unreadable",
        "t1.nii.gz",
        "negative dimensions",
    ),
    "RGB": (
        lambda f: save(f / "t1.nii.gz", np.zeros(SHAPE, [(c, "u1") for c in "RGB"])),
        "type",
        "t1.nii.gz",
        "expected real numbers",
    ),
}
VOXELS = {
    "checksum": (lambda f: break_checksum(f / "t1.nii.gz"), "unreadable", "t1.nii.gz", "CRC check failed"),
    "NaN": (lambda f: spoil(f, 3, np.nan), "not_finite", "t1.nii.gz", "3 voxels NaN, 0 infinite; expected finite"),
    "infinite": (lambda f: spoil(f, 2, -np.inf), "not_finite", "t1.nii.gz", "0 voxels NaN, 2 infinite"),
    "constant": (lambda f: save(f / "t1.nii.gz", brain() * 0 + 7), "constant", "t1.nii.gz", "7 everywhere"),
    "copy": (lambda f: save(f / "t2.nii.gz", brain(0).astype("f4")), "copy", "t2.nii.gz", "of flair.nii.gz"),
    "2023": (
        lambda f: save(f / "seg.nii.gz", lesion(1, 2, 3)),
        "label_values",
        "seg.nii.gz",
        "labels 0, 1, 2, 3: looks like brats2023; expected 0, 1, 2, 4 (brats2021)",
    ),
    "255": (lambda f: save(f / "seg.nii.gz", lesion(255)), "label_values", "seg.nii.gz", "fits no known convention"),
    "both": (
        lambda f: save(f / "seg.nii.gz", lesion(3, 4)),
        "label_values",
        "seg.nii.gz",
        "0, 3, 4: looks like brats2024",
    ),
    "fraction": (
        lambda f: save(f / "seg.nii.gz", lesion(1) * np.float32(0.25)),
        "label_values",
        "seg.nii.gz",
        "label 0.25; expected whole numbers",
    ),
    "label NaN": (lambda f: save(f / "seg.nii.gz", lesion(1) * np.float32("nan")), "not_finite", "seg.nii.gz", "NaN"),
    "empty": (lambda f: save(f / "seg.nii.gz", lesion()), "empty_mask", "seg.nii.gz", "no voxel is labelled"),
    "full": (lambda f: save(f / "seg.nii.gz", lesion() + 1), "constant", "seg.nii.gz", "1 everywhere"),
    "clipped": (lambda f: clip(f, 1), "clipped", "t1.nii.gz", "1 voxels at 255, a limit of uint8"),
    "clipped below": (
        lambda f: save(f / "t1.nii.gz", np.where(brain(9) > 800, -(2**15), brain(9)).astype("i2")),
        "clipped",
        "t1.nii.gz",
        "at -32768, a limit of int16",
    ),
}


def spoil(folder, count, value):
    volume = brain(1).astype(np.float32)
    volume[4, 4, 2 : 2 + count] = value
    save(folder / "t1.nii.gz", volume)


def clip(folder, count):
    volume = (brain(1) // 4).astype(np.uint8)
    volume[4, 4, 2 : 2 + count] = 255
    save(folder / "t1.nii.gz", volume)


def scaled_bytes(image, slope):
    """A NIfTI file with the slope written into its header, at the place that the format says."""
    content = bytearray(image.to_bytes())
    content[112:116] = np.float32(slope).tobytes()
    content[116:120] = np.float32(0).tobytes()
    return bytes(content)
