"""The sandbox's command: ``python -m keylessd.sandbox up | env | token | status | down``."""

from __future__ import annotations

import sys

from keylessd.sandbox.command import main

if __name__ == "__main__":
    sys.exit(main())
