"""Pages and forms of a coordinator, for the process that serves them."""

from pathlib import Path
from typing import Final

from fedapt_secure.web.site import Site

INVITE: Final = "invite"
REVOKE: Final = "revoke"
SITE: Final = Site(
    title="Coordinator",
    templates=Path(__file__).parent,
    pages={"/": "Now", "/members": "Institutions", "/log": "Log"},
    actions={INVITE: ("name", "again", "domain", "days"), REVOKE: ("name", "again", "reason")},
)
