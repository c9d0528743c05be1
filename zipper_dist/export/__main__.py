"""The export command: ``python -m zipper_dist.export RUN_OR_FILE --to FORMAT [--out DIR]``."""

import sys

from zipper_dist.starting import importing


def main() -> None:
    """Entry point of the export command."""
    with importing():
        from zipper_dist.config.command_line import parse_options, run_command
        from zipper_dist.export.run import export
        from zipper_dist.export.subject import ExportOptions
        from zipper_dist.metrics.console import make_console
    run_command(
        lambda: export(
            parse_options(ExportOptions, sys.argv[1:], "zipper_dist.export"), make_console()
        )
    )


if __name__ == "__main__":
    main()
