"""Methods without a federation: `local`, each institution by itself, and `zero-shot`, which trains nothing.

No coordinator, no rounds, nothing is exchanged. What an institution does with its images is what it does in
a session: the same learner, and under differential privacy the same plan, ledger and signed log, for a
session of its own in which all steps follow each other. Afterwards, because one operator owns every party of
a simulation, each model is scored on the held-out images of all institutions.
"""

import json
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np

from fedapt_client.books.books import Books
from fedapt_client.training.encoding_watch import EncodingWatch
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.learner import Learner, scores_to_fields
from fedapt_client.training.session_model import session_backbone
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.simulate import DEFAULT_EPSILON
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.learning.data.dealing import DealtInstitution
from fedapt_secure.learning.evaluation.scores import Scores
from fedapt_secure.learning.methods.base import Classifier
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.learning.privacy.mechanism import MECHANISM_NAME
from fedapt_secure.log.reader import read_log
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.privacy.budget import LARGEST_DELTA, SessionShare
from fedapt_secure.protocol.methods import ZERO_SHOT
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.simulate.running.session_run import EncodingProgress, Watch
from fedapt_secure.simulate.setup.federation import Federation, client_settings

_NO_PORT: Final = 1  # settings name one, and nothing is connected to
_ROUND: Final = 1


def run(federation: Federation, watch: Watch, encoding: EncodingProgress | None = None) -> None:
    """Let every institution train by itself (`local`) or not at all, and score what came out.

    Args:
        federation: The run.
        watch: Told of every log line, once an institution is done.
        encoding: Told while institutions encode images, from their threads.

    Raises:
        InvalidInput: If settings, images or budget cannot be used.
        RunFailed: If training diverged.
    """
    parties = [_Alone(federation, one, encoding) for one in federation.dataset.institutions]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for party in pool.map(_Alone.work, parties):
            if party.log_file.exists():
                for entry in read_log(party.log_file):
                    watch(party.name, entry)
    models = _models(federation, parties)
    for party in parties:
        party.keep(party.scores(models))


def _models(federation: Federation, parties: "list[_Alone]") -> dict[str, Classifier]:
    if federation.settings.method == ZERO_SHOT:  # the same everywhere
        return {"": parties[0].finished()}
    return {party.name: party.finished() for party in parties}


class _Alone:
    """One institution, and the session that it holds by itself."""

    def __init__(
        self, federation: Federation, institution: DealtInstitution, encoding: EncodingProgress | None
    ) -> None:
        self.name = institution.name
        self.folder = federation.folder.party(self.name)
        self.log_file = federation.folder.log(self.name)
        self._settings = client_settings(federation, institution, _NO_PORT)
        roster = federation.roster
        self._configuration = SessionConfiguration(
            session=secrets.token_bytes(SESSION_BYTES),
            plan=federation.plan,
            roster=roster.only((self.name,)),
            key_commitments=(bytes(32),) * federation.plan.key_count,
        )
        self._progress = None if encoding is None else partial(encoding, self.name)
        self._learner: Learner | None = None

    @property
    def _plan(self) -> SessionPlan:
        return self._configuration.plan

    def work(self) -> "_Alone":
        """Get the features ready, and train where the method trains."""
        if self._plan.method == ZERO_SHOT:
            self._learner = self._ready(SessionShare(DEFAULT_EPSILON, LARGEST_DELTA))  # nothing is spent
            self._learner.conclude(np.zeros(0, np.float32), ())
            return self
        folder = PartyFolder(self.folder)
        books = Books(self.folder, self._settings, epsilon_of, MECHANISM_NAME)
        log = LogWriter(self.log_file, party=self.name, role="institution", identity=folder.identity())
        try:
            self._train(books, log)
        finally:
            log.close()
        return self

    def _ready(self, share: SessionShare) -> Learner:
        watch = EncodingWatch(self.name, self._progress)
        try:
            return Learner(self._settings, self.folder, self._configuration, share, watch)
        finally:
            watch.stop()

    def _train(self, books: Books, log: LogWriter) -> None:
        policy, session = books.policy_body(), self._configuration.session
        if policy is not None:
            log.write("policy", policy)
        learner = self._learner = self._ready(books.share(session))
        learner.check_possible()
        accepted = books.accept(
            self._configuration,
            learner.privacy_plan,
            learner.declared_records,
            learner.images,
            learner.subjects,
        )
        log.write("session_accepted", accepted)
        budget, steps = learner.budget(books.ledger.steps_spent(session)), self._plan.local_steps
        if budget is not None:
            budget.reserve(steps)
        reserved = books.reserve(session, _ROUND, steps)
        if budget is not None:
            log.write("spend", books.spend_body(session, _ROUND, reserved, budget))
        start = self._plan.initial_model()
        no_key = np.zeros(self._plan.shape.key, np.float32)
        model = start + learner.train(start, no_key, _ROUND)
        concluded = learner.conclude(model, ())
        body = {"session": session.hex(), "model": model_hash(model.tobytes()).hex()}
        log.write("session_ended", body | {"bundle": concluded.bundle_hash.hex()})

    def finished(self) -> Classifier:
        """Return the model that this institution ended with."""
        backbone = session_backbone(self._configuration, self._settings.device, self._settings.precision)
        return read_bundle(KeptModels(self.folder).path(self._session)).model_on(backbone)

    def keep(self, scores: dict[str, Any]) -> None:
        """Store what `scores` counted beside the model."""
        KeptModels(self.folder).keep_evaluation(self._session, (json.dumps(scores) + "\n").encode())

    @property
    def _session(self) -> str:
        return self._configuration.session.hex()

    def scores(self, models: dict[str, Classifier]) -> dict[str, Any]:
        """Return counts on the images held out here, added up over all models, and those of its own."""
        assert self._learner is not None  # `work` came first
        each = {name: self._learner.score(model) for name, model in models.items()}
        own = each.get(self.name)
        fields = scores_to_fields(sum(each.values(), Scores(0, 0, 0, 0)))
        if own is not None:
            fields |= {"own_records": own.test_records, "own_correct": own.tuned_correct}
        return fields
