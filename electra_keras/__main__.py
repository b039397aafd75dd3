"""`python -m electra_keras`."""

import sys

from electra_keras.cli import main

if __name__ == "__main__":
    sys.exit(main())
