"""python -m kvmmodel.cli"""

import sys

from kvmmodel.cli import main

sys.exit(main())
