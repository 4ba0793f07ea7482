"""One run of ``search.report``: reads the searches and writes the page."""

import argparse

from rich.text import Text

from search.report.comparison import comparison, order_of_choices
from search.report.finished_search import read_searches
from search.report.page import REPORT_FILE
from supernet.cli.console import CONSOLE
from supernet.cli.runs import point_latest, write_summary
from supernet.io import files
from supernet.io.new_folder import check_new, new_folder


def run(options: argparse.Namespace) -> None:
    """Write the page and print what it says of the order of the searches.

    Raises:
        UserError: A search is not finished or damaged, or the folder exists.
    """
    check_new(options.folder)
    searches = read_searches(options.searches, options.runs)
    order = order_of_choices(searches)
    with new_folder(options.folder) as staging:
        files.write_text(staging / REPORT_FILE, comparison(searches))
        write_summary(
            staging, {"searches": {search.name: search.summary["chosen"] for search in searches}, "order": order}
        )
    if options.is_default_folder:
        point_latest(options.folder)
    for sentence in order:
        CONSOLE.print(Text(sentence), soft_wrap=True)
    CONSOLE.print(Text(f"report: {options.folder / REPORT_FILE}"), soft_wrap=True)
