"""What test modules share that is no fixture: the repository's root, its commands, and how to run a program."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODALITIES = {  # of each bundle, in channel order
    "ukb_ssl_pretrain": ["T1", "FLAIR"],
    "brats_stage2": ["FLAIR", "T1ce", "T1", "T2"],
    "brats_finetune": ["FLAIR", "T1ce", "T1", "T2"],
    "atlas_stage2": ["T1"],
    "atlas_finetune": ["T1"],
}
BUNDLES = sorted(MODALITIES)
TINY = [  # options of train.yaml that make one step a second's work
    "--model_size=micro",
    "--patch_size=[64,64,64]",
    "--batch_size=2",
    "--global_batch_size=null",
    "--num_workers=0",
    "--warmup_iterations=1",
    "--iterations=1",
    "--val_interval=1",
]
Result = subprocess.CompletedProcess


def execute(arguments: list[str], place: Path = ROOT, **environment: str) -> Result:
    """Run a program to its end; its output is text."""
    return subprocess.run(
        arguments,
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def readme_blocks() -> list[str]:
    """The bash blocks of README.md, in their order."""
    return [
        re.sub(r"^  ", "", block, flags=re.MULTILINE) if block.startswith("  ") else block
        for block in re.findall(r"^ *```bash\n(.*?)^ *```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    ]


def one_line(error) -> str:
    """The message of an exception that `pytest.raises` caught, which must be a single line."""
    assert "\n" not in str(error.value)
    return str(error.value)
