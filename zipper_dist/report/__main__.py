"""The report command: ``python -m zipper_dist.report RUN [RUN …] [--out FILE.html]``."""

import sys

from zipper_dist.starting import importing


def main() -> None:
    """Entry point of the report command."""
    with importing():
        from zipper_dist.config.command_line import parse_options, run_command
        from zipper_dist.report.options import ReportOptions

    def command() -> None:
        options = parse_options(ReportOptions, sys.argv[1:], "zipper_dist.report")
        # Only now, as --help takes neither.
        from zipper_dist.metrics.console import make_console
        from zipper_dist.report.run import report

        report(options, make_console())

    run_command(command)


if __name__ == "__main__":
    main()
