"""`python -m microkit`: the same as the program `microkit`."""

import sys

from microkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
