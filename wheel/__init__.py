"""The commands of an installed wheel: `brainsegfounder NAME [ARGUMENT ...]` is `python -m scripts.NAME [ARGUMENT ...]`.

The wheel holds a copy of the scripts, with the `common` and `bundles` that they use, in the folder `checkout`.
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parent / "checkout"


def main() -> None:
    """Run a command of the checkout in place of this process; without a command, list them."""
    name, *arguments = sys.argv[1:] or [""]
    is_command = any((CHECKOUT / "scripts" / file).is_file() for file in (f"{name}.py", f"{name}/__main__.py"))
    module = [f"scripts.{name}", *arguments] if is_command else ["scripts", *sys.argv[1:]]
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Also for processes that the command starts; a folder `common` or `scripts` of the current folder is not imported
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    os.execv(sys.executable, [sys.executable, "-m", *module])
