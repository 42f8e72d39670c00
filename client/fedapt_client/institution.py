"""What all sessions of an institution share: settings, folder, policy and ledger, signed log, approvals."""

from collections.abc import Mapping
from typing import Any

from fedapt_client.activity import ACTIVITY_FILE, ActivityFile
from fedapt_client.books.approval import Approvals
from fedapt_client.books.books import Books
from fedapt_client.narration import narrate
from fedapt_client.settings import ClientSettings, parse_vanish
from fedapt_client.training.encoding_watch import EncodingWatch
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.notices.sender import Notifier
from fedapt_secure.notices.settings import Event
from fedapt_secure.protocol.session import SessionConfiguration


class Institution:
    """What sessions share: settings, folder, policy and ledger, log, approvals.

    Args:
        settings: The institution's settings. folder: Its folder. books: Its policy and ledger.
        log: Its signed log. approvals: What its people have agreed to.
        encoding: Told while images are encoded.
    """

    def __init__(
        self,
        settings: ClientSettings,
        folder: PartyFolder,
        books: Books,
        log: LogWriter,
        approvals: Approvals,
        encoding: EncodingWatch | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.books = books
        self.log = log
        self.approvals = approvals
        self.encoding = encoding or EncodingWatch(settings.name)
        self.activity = ActivityFile(folder.path / ACTIVITY_FILE)
        """What goes on, for who looks; nothing follows from it."""
        self.notices = Notifier(settings.notify, settings.name)
        self.encoding.each_batch = self.activity.encoded
        self.vanish_at = {parse_vanish(entry) for entry in settings.vanish_at}

    def write(self, type: str, body: Mapping[str, Any]) -> None:
        """Write a line of the signed log, and tell the operators."""
        self.log.write(type, dict(body))
        match type:
            case "refused":
                self.notices.tell(Event.REFUSAL, body["session"], body["code"])
            case "session_ended":
                self.notices.tell(Event.END, body["session"])
        narrate(self.settings.name, type, body)

    def waits_for_people(self, configuration: SessionConfiguration) -> None:
        """Tell people of a session that is offered, unless they have decided on it or the policy does."""
        decided = self.approvals.decision(configuration.hash.hex()) is not None
        if not (decided or self.books.policy.unattended):
            self.notices.tell(Event.OFFER, configuration.session.hex())

    def log_policy(self) -> None:
        """Write the policy into the log, where it is not the one logged last."""
        policy = self.books.policy_body()
        if policy is not None:
            self.write("policy", policy)
