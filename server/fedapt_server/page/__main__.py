"""The process that faces browsers; started by `fedapt_secure.web.serving`, of no use by hand."""

import sys

from fedapt_secure.web.process import main
from fedapt_server.page.site import SITE

sys.exit(main(SITE))
