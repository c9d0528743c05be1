"""The training command: ``python -m zipper_dist.train [RECIPE] [--option value …]``, on two ranks
``torchrun --nproc_per_node=2 -m zipper_dist.train …``."""

import sys

from zipper_dist.starting import importing


def main() -> None:
    """Entry point of the training command."""
    with importing():
        from zipper_dist.config.command_line import run_command
        from zipper_dist.distributed.hardware import keep_freed_memory
        from zipper_dist.distributed.launched import end_with_torchrun
        from zipper_dist.recipes.command_line import parse_train_options
        from zipper_dist.training.run import run_logged
    keep_freed_memory()
    end_with_torchrun()
    run_command(lambda: run_logged(parse_train_options(sys.argv[1:])))


if __name__ == "__main__":
    main()
