"""``python -m eqnp`` is the command ``eqnp``."""

import sys

from eqnp.cli import main

sys.exit(main())
