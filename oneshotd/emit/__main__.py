"""``python -m oneshotd.emit`` is ``oneshot-emit``."""

import sys

from oneshotd.emit import main

if __name__ == "__main__":
    sys.exit(main())
