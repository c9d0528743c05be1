"""``python -m zipper_dist COMMAND …`` is ``python -m zipper_dist.COMMAND …``."""

import runpy
import sys

import zipper_dist

COMMANDS = ("train", "evaluate", "predict", "export", "report", "launcher")

USAGE = """\
usage: python -m zipper_dist COMMAND [ARGUMENT …]   (COMMAND --help says more)

  train      train by a recipe, on one process or, under torchrun, on several
  evaluate   measure clean and robust accuracy of a run or a file of weights
  predict    say what images show, and whether an attack changes that
  export     write a network for RobustBench, torch.export, ONNX or the Hugging Face Hub
  report     runs on one HTML page: curves, timelines, comparisons
  launcher   torchrun, with the exit status of the rank that failed first

options: --help, --version. From Python: help(zipper_dist.api)"""


def main() -> int:
    """Print the usage, or run a command; the exit status."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        print(USAGE)
    elif command == "--version":
        print(f"zipper_dist {zipper_dist.__version__}")
    elif command not in COMMANDS:
        print(f"zipper: error: unknown command {command!r}\n{USAGE}", file=sys.stderr)
        return 2
    else:
        sys.argv = [f"zipper_dist.{command}", *sys.argv[2:]]
        runpy.run_module(f"zipper_dist.{command}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
