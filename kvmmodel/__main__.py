"""python -m kvmmodel"""

import sys

from kvmmodel.cli import main

sys.exit(main())
