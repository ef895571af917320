"""Write an evaluation: scores first, then pages."""

from pathlib import Path

from ..errors import one_line, show
from ..inference import results
from ..inference.publishing import PAGE, place_of
from ..inference.results import Details


def write(folder: str | Path, details: Details, slices: str = "chosen") -> list[str]:
    """Write the files of an evaluation (`common.inference.results`) and its pages; return the terminal output.

    A page that cannot be drawn, whatever the reason, is a warning. `slices` as in `common.pages.write_pages`.
    """
    summary = results.write(folder, details)
    try:
        from .evaluation import write_pages  # imported here: it needs packages that scores do not

        write_pages(folder, details, slices)
    except Exception as error:
        show(f"warning: {place_of(folder)}/{PAGE} was not drawn: {one_line(error)}", error=True)
    return results.lines(details, summary)
