"""The packaged application; `python -m deploy.layout` puts this file beside `deploy` and `scripts`.

`common` is the packaged bundle's own copy, below HOLOSCAN_MODEL_PATH. Without arguments, the input, output and model
are MONAI Deploy's variables; SEGMENT_OPTIONS has further options, such as --prepare.
"""

import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory


def bundle_below(models: Path) -> Path:
    """Return the packaged bundle: the folder of the models, or its only subfolder with an inference config."""
    bundles = [
        path.parents[1] for path in (*models.glob("configs/inference.yaml"), *models.glob("*/configs/inference.yaml"))
    ]
    if len(bundles) != 1:
        sys.exit(f"error: HOLOSCAN_MODEL_PATH={models}: {len(bundles)} bundles; expected one")
    return bundles[0]


if __name__ == "__main__":
    model = bundle_below(Path(os.environ.get("HOLOSCAN_MODEL_PATH", "/opt/holoscan/models")))
    os.environ["HOLOSCAN_MODEL_PATH"] = str(model)
    with TemporaryDirectory() as folder:
        Path(folder, "common").symlink_to(next(model.glob("*_common")).resolve())
        sys.path.insert(1, folder)
        from deploy.process import restrict_output

        restrict_output()
        from deploy.app import segment
        from scripts.cli import run

        sys.argv += shlex.split(os.environ.get("SEGMENT_OPTIONS", ""))
        run(segment, "app")
