"""One self-contained HTML page about a folder of runs: `python -m scripts.report RUN_DIR`."""

from common import cli
from common.errors import shortened, show
from common.files import atomic_write, expand_home
from scripts.report.runs import read_stages


def report(run_dir: str) -> None:
    """Write RUN_DIR/report.html: one page with the stages, losses, pictures, weights and scores of a folder of runs.

    The page is self-contained. An old page is replaced only after the new one is complete.

    Args:
        run_dir: folder of one run, with a `run.json`, or a folder that contains runs at any depth.
    """
    folder = expand_home(run_dir, f"--run_dir={run_dir}")
    stages = read_stages(folder)
    from scripts.report.page import is_png, page  # late import: slow

    content = page(folder, stages)
    target = folder / "report.html"
    with atomic_write(target) as file:
        file.write_text(content, encoding="utf-8")
    pictures = [run.folder / path for stage in stages for run in stage.runs for path in run.pictures]
    if lost := [str(path) for path in pictures if not is_png(path)]:
        show(f"warning: {shortened(lost, most=1)}: missing or not a PNG file", error=True)
    show(target)


if __name__ == "__main__":
    cli.run(report, "report")
