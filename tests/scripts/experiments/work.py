"""The script that jobs of tests run."""

WORK = """
import sys, time
from pathlib import Path
kind, output, *rest = sys.argv[1:]
with open(Path(__file__).with_suffix(".log"), "a") as log:
    log.write(f"{kind}\\n")
while Path(__file__).with_name(f"wait-{kind}").exists():
    time.sleep(0.05)
if Path(__file__).with_name(f"fail-{kind}").exists():
    print("first line")
    sys.exit("it broke: " + kind)
folder = Path(output) / "predictions"
folder.mkdir(parents=True, exist_ok=True)
(folder / "a").write_text(" ".join(rest))
"""
