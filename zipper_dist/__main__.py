"""``python -m zipper_dist``: the commands, and each of them by its name.

python -m zipper_dist COMMAND [ARGUMENT …]   is   python -m zipper_dist.COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import runpy
import sys

import zipper_dist

COMMANDS = {
    "train": "train by a recipe, on one process or, under torchrun, on several",
    "evaluate": "measure clean and robust accuracy of a run or a file of weights",
    "launcher": "torchrun, with the exit status of the rank that failed first",
}

USAGE = "\n".join(
    [
        "usage: python -m zipper_dist COMMAND [ARGUMENT …]   (COMMAND --help says more)",
        "",
        *(f"  {name:10} {what}" for name, what in COMMANDS.items()),
        "",
        "options: --help, --version. From Python: help(zipper_dist.api)",
    ]
)


def main() -> int:
    """Print the usage, or run a command; the exit status."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if arguments[0] == "--version":
        print(f"zipper_dist {zipper_dist.__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"zipper: error: unknown command {arguments[0]!r}\n{USAGE}", file=sys.stderr)
        return 2
    module = f"zipper_dist.{arguments[0]}"
    sys.argv = [module, *arguments[1:]]
    runpy.run_module(module, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
