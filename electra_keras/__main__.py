"""`python -m electra_keras`, and the script `electra-keras`."""

import sys

from electra_keras.huge_pages import restart_with_huge_pages


def main() -> int:
    """Runs the command that the process was started with; returns the exit code."""
    if sys.argv[1:2] == ["pretrain"]:
        restart_with_huge_pages()
    try:
        # Here, since it takes a tenth of a second, in which Ctrl-C may come.
        from electra_keras import cli
    except KeyboardInterrupt:
        print("electra-keras: interrupted.", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
