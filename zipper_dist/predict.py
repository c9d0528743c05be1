"""The prediction command: what a saved network says of images.

python -m zipper_dist.predict RUN_OR_FILE IMAGE… [--top K] [--certify-pgd] [--option value …]
"""

import sys

from zipper_dist.starting import importing


def main() -> None:
    """Entry point of the prediction command."""
    from zipper_dist.config.command_line import parse_options, run_command
    from zipper_dist.prediction.options import PredictOptions

    def command() -> None:
        options = parse_options(PredictOptions, sys.argv[1:], "zipper_dist.predict")
        with importing():
            from zipper_dist.metrics.console import make_console
            from zipper_dist.prediction.run import run
        run(options, make_console())

    run_command(command)


if __name__ == "__main__":
    main()
