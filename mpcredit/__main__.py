"""`python -m mpcredit` is `mpcredit`."""

import sys

from mpcredit.cli import main

if __name__ == "__main__":
    sys.exit(main())
