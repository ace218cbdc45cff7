"""`python -m stepbus` is the command `stepbus`."""

import sys

from .cli import main

sys.exit(main())
