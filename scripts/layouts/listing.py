"""List the image files below a folder."""

import os
from collections.abc import Callable
from pathlib import Path

from common.data.names import SUFFIX


def stem_of(name: str) -> str | None:
    """Return an image file's name without suffix; None for hidden files and other formats."""
    stem = SUFFIX.sub("", name)
    return None if stem == name or name.startswith(".") else stem


def list_images(root: Path, enters: Callable[[str], bool] = lambda folder: True) -> list[str]:
    """List the paths of images below a root, sorted, but for hidden ones, and those in folders that `enters` rejects.

    Links to folders are followed if they lead out of the root. Raise OSError for a folder that cannot be read.
    """
    base, images = root.resolve(), []

    def is_wanted(folder: Path) -> bool:
        path = root / folder
        if path.is_symlink():
            target = path.resolve()
            is_loop = path.parent.resolve().is_relative_to(target)
            if is_loop or target.is_relative_to(base):  # images in the root are listed in their place
                return False
        return folder.name[0] != "." and enters(folder.as_posix())

    for path, names, members in os.walk(root, onerror=_fail, followlinks=True):
        folder = Path(path).relative_to(root)
        names[:] = [name for name in names if is_wanted(folder / name)]
        images += [(folder / name).as_posix() for name in members if stem_of(name)]  # also lost links, for the checks
    return sorted(images, key=lambda image: image.split("/"))


def _fail(error: OSError) -> None:
    raise error
