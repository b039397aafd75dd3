"""`python -m electra_keras`, and the script `electra-keras`."""

import sys

from electra_keras import cli
from electra_keras.huge_pages import restart_with_huge_pages


def main() -> int:
    """Runs the command that the process was started with; returns the exit code."""
    if sys.argv[1:2] == ["pretrain"]:
        restart_with_huge_pages()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
