"""The packaged application; `python -m deploy.layout` puts this file beside `deploy` and `scripts`.

`common` is the packaged bundle's own copy, below HOLOSCAN_MODEL_PATH. Without arguments, the input, output and model
are MONAI Deploy's variables; SEGMENT_OPTIONS has further options, such as --prepare.
"""

import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    models = Path(os.environ.get("HOLOSCAN_MODEL_PATH", "/opt/holoscan/models"))
    bundles = [path.parents[1] for path in models.rglob("configs/inference.yaml")]
    if len(bundles) != 1:
        sys.exit(f"error: HOLOSCAN_MODEL_PATH={models}: {len(bundles)} bundles; expected one")
    os.environ["HOLOSCAN_MODEL_PATH"] = str(bundles[0])
    with TemporaryDirectory() as folder:
        Path(folder, "common").symlink_to(next(bundles[0].glob("*_common")).resolve())
        sys.path.insert(1, folder)
        from deploy.process import restrict_output

        restrict_output()
        from deploy.app import segment
        from scripts.cli import run

        sys.argv += shlex.split(os.environ.get("SEGMENT_OPTIONS", ""))
        run(segment, "app")
