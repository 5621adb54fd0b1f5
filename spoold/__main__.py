"""python -m spoold: the same as the command spoold."""

import sys

from spoold.cli.main import main

sys.exit(main())
