"""Write the scores, then the pages, of an evaluation."""

from pathlib import Path

from ..errors import one_line, show
from ..inference import results
from ..inference.publishing import PAGE, final_folder
from ..inference.results import Details


def write(folder: str | Path, details: Details, slices: str = "chosen") -> list[str]:
    """Write the files (`common.inference.results`) and pages of an evaluation; return the lines to print.

    A failure to draw a page only prints a warning. `slices` selects cases as in `common.pages.write_pages`.
    """
    summary = results.write(folder, details)
    try:
        from .evaluation import write_pages  # imported here, since scores do not need its packages

        write_pages(folder, details, slices, summary)
    except Exception as error:
        show(f"warning: {final_folder(folder)}/{PAGE} was not drawn: {one_line(error)}", error=True)
    return results.lines(details, summary)
