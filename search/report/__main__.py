"""Compare finished searches on one page: ``python -m search.report RUN RUN`` (options: ``--help``)."""

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.arguments import RunCommandLine

    parser = RunCommandLine(
        "python -m search.report",
        "report",
        "Compare finished searches on one page: their fronts over multiply-adds, parameters and latency, their chosen "
        "subnets with intervals of AP, and which order the images support.",
    )
    parser.add_argument(
        "searches",
        metavar="SOURCE",
        nargs="+",
        help="folder of a finished search, or its name in RUNS/evolve or RUNS/optuna_search",
    )
    parser.describe(("latest", "runs/evolve/a runs/evolve/b --output comparison"))
    options = parser.parse()

    from supernet.cli.console import run_command
    from supernet.cli.extras import SEARCH, require

    def job() -> None:
        require("search", "a report of searches", SEARCH)
        from search.report.run import run

        run(options)

    run_command(job)


if __name__ == "__main__":
    main()
