"""Started as every page's process is."""

import sys

from fedapt_secure.web.process import main
from tests.web.probe.site import SITE

sys.exit(main(SITE))
