"""`python -m gxu`."""

import sys

from gxu.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
