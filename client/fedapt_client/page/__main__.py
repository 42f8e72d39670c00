"""The process that faces browsers; started by `fedapt_secure.web.serving`, of no use by hand."""

import sys

from fedapt_client.page.site import SITE
from fedapt_secure.web.process import main

sys.exit(main(SITE))
