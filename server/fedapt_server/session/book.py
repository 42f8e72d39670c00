"""How far a session has come, in one place for all parts of it; every change is made durable."""

from dataclasses import dataclass, replace
from typing import Any

from fedapt_server.session.actions import Keep
from fedapt_server.session.progress import Progress


@dataclass
class Book:
    """The progress of one session.

    Attributes:
        progress: How far it has come.
    """

    progress: Progress

    def keep(self, **changes: Any) -> Keep:
        """Change the progress, and return what makes that durable."""
        self.progress = replace(self.progress, **changes)
        return Keep(self.progress)
