"""The evaluation command: a saved network against a list of attacks.

python -m zipper_dist.evaluate RUN_OR_FILE [--attacks standard] [--option value …]
torchrun --nproc_per_node=N -m zipper_dist.evaluate RUN_OR_FILE …
"""

import sys

from zipper_dist.starting import importing


def main() -> None:
    """Entry point of the evaluation command."""
    with importing():
        from zipper_dist.config.command_line import parse_options, run_command
        from zipper_dist.distributed.hardware import keep_freed_memory
        from zipper_dist.distributed.launched import end_with_torchrun
        from zipper_dist.evaluation.options import EvaluateOptions
        from zipper_dist.evaluation.run import run_logged
    keep_freed_memory()
    end_with_torchrun()
    name = "zipper_dist.evaluate"
    run_command(lambda: run_logged(parse_options(EvaluateOptions, sys.argv[1:], name)))


if __name__ == "__main__":
    main()
