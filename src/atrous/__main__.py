"""`python -m atrous`: the command line."""

import sys

from atrous.cli.main import main

sys.exit(main())
