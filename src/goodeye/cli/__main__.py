"""`python -m goodeye.cli`."""

import sys

from goodeye.cli import main

sys.exit(main())
