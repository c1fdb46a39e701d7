"""``python -m eqnp`` is the command ``eqnp``."""

import sys

from eqnp.app.cli import main

sys.exit(main())
