"""``python -m oneshotd.ctl`` is ``oneshotctl``."""

import sys

from oneshotd.ctl import main

if __name__ == "__main__":
    sys.exit(main())
