"""One self-contained HTML page about a folder of runs: `python -m scripts.report RUN_DIR`."""

from pathlib import Path

from common import cli
from common.errors import show
from common.files import atomic_write
from scripts.report.runs import read_stages


def report(run_dir: str) -> None:
    """Write RUN_DIR/report.html: one page with the stages, losses, pictures, weights and scores of a folder of runs.

    The page is self-contained. An old page is replaced only after the new one is complete.

    Args:
        run_dir: folder that holds the runs, each a folder with a `run.json`, at any depth; or one such folder.
    """
    from scripts.report.page import page  # late import: `--help` stays fast

    folder = Path(str(run_dir))
    content = page(folder, read_stages(folder))
    target = folder / "report.html"
    with atomic_write(target) as file:
        file.write_text(content, encoding="utf-8", errors="backslashreplace")
    show(target)


if __name__ == "__main__":
    cli.run(report, "report")
