"""An institution's policy and ledger together: what is admitted, what is reserved, what the log is told."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedapt_client.books.bindings import Bindings, ModelRecord
from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.books.in_force import policy_in_force, share_of
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import (
    INSECURE_NOISE,
    KEYSTREAM_NOISE,
    NO_MECHANISM,
    NO_NOISE,
    PlannedSession,
    Terms,
    plan_body,
)
from fedapt_client.books.minima import Held, check_minima
from fedapt_client.books.own_log import check_ledger, read_own_log
from fedapt_client.books.round_models import RoundModels
from fedapt_client.session.kept_model import KeptModel
from fedapt_client.session.own_model import PastRounds
from fedapt_client.session.requirements import Requirements
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_secure.config.policy import Policy
from fedapt_secure.privacy.budget import EpsilonOf, PrivacyBudget, PrivacyPlan, SessionShare
from fedapt_secure.privacy.composition import Rule, check_allowance, planned_rdp_of, sum_of_plans
from fedapt_secure.privacy.unit import IMAGE, PERSON, said
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason, told_as
from fedapt_secure.protocol.session import SessionConfiguration


class Books:
    """Opens policy and ledger, and checks them against the institution's own log.

    Args:
        folder: The party's folder, to which paths in its settings are relative.
        settings: Its settings.
        epsilon_of: The accountant for a session's ε.
        mechanism: Name of the noise mechanism in use.

    Raises:
        InvalidInput: If policy or ledger cannot be used, or the ledger lacks what the log shows.
    """

    def __init__(self, folder: Path, settings: ClientSettings, epsilon_of: EpsilonOf, mechanism: str) -> None:
        self._settings = settings
        self._epsilon_of = epsilon_of
        self._mechanism = mechanism
        self._folder = folder
        self.in_force = policy_in_force(folder, settings)
        self.ledger = Ledger(folder / settings.ledger, self._admit)
        self.bindings = Bindings(self.ledger.file)
        self._models = RoundModels(folder)
        self._log = folder / settings.log
        own = read_own_log(self._log)
        check_ledger(own, self.ledger, folder / settings.ledger)
        self._logged_policy = own.policy_hash
        self._checked_under: str | None = None
        self._held: Held | None = None
        self.own = own

    @property
    def policy(self) -> Policy:
        """What holds at present."""
        return self.in_force.policy

    @property
    def requirements(self) -> Requirements:
        """What the session machine insists on."""
        return Requirements(
            differential_privacy=self.policy.require_differential_privacy,
            aggregation=self.policy.aggregation,
            minimum_participants=self.policy.minimum_participants,
            minimum_institutions_per_key=self.policy.minimum_institutions_per_key,
            coordinators=self.policy.coordinators,
            max_message_bytes=self.policy.max_message_bytes,
        )

    def policy_body(self) -> dict[str, Any] | None:
        """Return the policy for the log, or ``None`` where it is the last one logged."""
        if self.policy.hash == self._logged_policy:
            return None
        self._logged_policy = self.policy.hash
        named = self.in_force.from_file
        source = self._settings.policy.name if named else "defaults: there is no policy file"
        return {"hash": self.policy.hash, "source": source, **self.policy.to_body()}

    def read_policy_again(self) -> None:
        """Let the policy file as it stands now hold from here on.

        Raises:
            InvalidInput: If it is there and cannot be used; what held before is not fallen back on.
        """
        with told_as(Reason.POLICY_INVALID):
            self.in_force = policy_in_force(self._folder, self._settings)

    def check_again(self, session: bytes) -> None:
        """Hold a session on record against a policy that may have changed since it was accepted.

        Judged once for every policy, and anew after every start: a policy may have changed meanwhile.

        Raises:
            PolicyRefused: If the policy does not allow it any more, naming the rule.
        """
        if self.policy.hash == self._checked_under:
            return
        planned = self.ledger.plan(session)
        if self._held is not None:
            check_minima(self.policy, self._held)
        self._check_noise(private=planned.terms.noise_multiplier is not None)
        self._admit(self.ledger.counted(planned), planned.terms)
        self._checked_under = self.policy.hash

    def past(self, configuration: SessionConfiguration) -> PastRounds:
        """Return what is on record of a session's rounds.

        A model whose file is lost is taken from the others again; what it says about rounds holds.
        """
        session = configuration.session
        record = self.bindings.model_of(session)
        model = None if record is None else self._models.read(configuration, record.model_id)
        kept = stated = None
        if record is not None and model is not None:
            kept = KeptModel(model, record.model_id, record.round, record.attempt)
            stated = m.SumVerified.from_bytes(record.stated) if record.stated else None
        openings, newest = self.bindings.openings(session), self.bindings.newest_joined(session)
        own = read_own_log(self._log).sessions.get(session.hex())
        noted = frozenset() if own is None else frozenset(own.noted)
        return PastRounds(kept, stated, openings, newest, noted)

    def adopt(self, session: bytes, kept: KeptModel, stated: m.SumVerified | None) -> None:
        """Make a session's new model durable, and then the record that makes it count.

        Args:
            session: The session.
            kept: The model.
            stated: What is stated about it.

        Raises:
            ContextMismatch: If its round has led to another model here.
            Unavailable, InvalidInput: If it cannot be written.
        """
        self._models.write(session, kept.model_id, kept.model)
        data = b"" if stated is None else stated.to_bytes()
        self.bindings.adopt(session, ModelRecord(kept.round, kept.attempt, kept.model_id, data))
        self._models.keep_only(session, kept.model_id)

    def share(self, session: bytes) -> SessionShare:
        """Return the ε and δ for which a session is to be planned.

        They are those on record, for a session that was accepted before; else what the settings ask for,
        which `accept` judges, and where they ask for nothing what the policy allows one session.
        """
        on_record = next((one.terms for one in self.ledger.sessions if one.terms.session == session), None)
        if on_record is not None and on_record.epsilon_budget is not None and on_record.delta is not None:
            return SessionShare(on_record.epsilon_budget, on_record.delta, exact=True)
        return share_of(self._settings, self.policy)

    def accept(
        self,
        configuration: SessionConfiguration,
        plan: PrivacyPlan | None,
        declared_records: int,
        images: Collection[KnownImage],
        subjects: Collection[str] | None,
    ) -> dict[str, Any]:
        """Put a session's plan on record and return the log's line about it.

        Args:
            configuration: The session.
            plan: The privacy plan; ``None`` without differential privacy.
            declared_records: N̂, a count of the plan's units.
            images: By what each training image is known.
            subjects: Whose images they are, where the data says so.

        Raises:
            PolicyRefused: If the policy does not allow it, naming the rule.
            InvalidInput: If another plan is on record for this session, or the ledger cannot be written.
        """
        held = Held.of(images, subjects)
        terms = self._judged_terms(configuration, plan, declared_records, held)
        self._held = held
        planned = self.ledger.record_plan(terms, images, subjects or (), self._with_rule)
        return {
            "session": configuration.session.hex(),
            "configuration": configuration.hash.hex(),
            "roster": configuration.roster.hash.hex(),
            "secure_aggregation": configuration.plan.secure_aggregation,
            "participation": configuration.plan.participation,
            "supervision": configuration.plan.supervision,
            "privacy": None if plan is None else self._plan_body(planned, plan),
            "key_commitments": [commitment.hex() for commitment in configuration.key_commitments],
            "plan": configuration.plan.model_dump(mode="json"),
        }

    def judge(
        self,
        configuration: SessionConfiguration,
        plan: PrivacyPlan | None,
        declared_records: int,
        images: Collection[KnownImage],
        subjects: Collection[str] | None,
    ) -> dict[str, Any] | None:
        """Return the privacy that `accept` would put on record, or raise what it would; nothing is on record.

        Args:
            configuration: The session.
            plan: The privacy plan; ``None`` without differential privacy.
            declared_records: N̂, a count of the plan's units.
            images: By what each training image is known.
            subjects: Whose images they are, where the data says so.

        Raises:
            PolicyRefused, InvalidInput: As `accept` does.
        """
        terms = self._judged_terms(configuration, plan, declared_records, Held.of(images, subjects))
        planned = self.ledger.judge_plan(terms, images, subjects or (), self._with_rule)
        return None if plan is None else self._plan_body(planned, plan)

    def reserve(self, session: bytes, round_number: int, steps: int) -> int:
        """Reserve a round's steps and return how many that added: none for a repeated round.

        Raises:
            BudgetExhausted: If the session's plan does not cover them.
            PolicyRefused: If it is the first step and others have used up the allowance meanwhile.
        """
        if self.ledger.is_reserved(session, round_number):
            return 0
        self.ledger.reserve(session, round_number, steps)
        return steps

    def spend_body(
        self, session: bytes, round_number: int, steps: int, budget: PrivacyBudget
    ) -> dict[str, Any]:
        """Return the log's line about a round's spend, written before the first of its steps."""
        plan = budget.plan
        return {
            "session": session.hex(),
            "round": round_number,
            "dataset": self.ledger.plan(session).dataset.hex(),
            "steps": steps,
            "total_steps": budget.steps_spent,
            "noise_multiplier": plan.noise_multiplier,
            "sample_rate": plan.sample_rate,
            "delta": plan.delta,
            "epsilon": budget.epsilon_after(0),
        }

    def _judged_terms(
        self, configuration: SessionConfiguration, plan: PrivacyPlan | None, declared_records: int, held: Held
    ) -> Terms:
        """Return what is to be put on record, as far as the policy allows it whatever went before."""
        check_minima(self.policy, held)
        self._check_noise(private=plan is not None)
        terms = self._terms(configuration, plan, declared_records)
        self._check_policys_unit(terms)
        return terms

    def _terms(
        self, configuration: SessionConfiguration, plan: PrivacyPlan | None, declared_records: int
    ) -> Terms:
        training, (composition, order) = configuration.plan, self.policy.allowance.rule
        insecure = self._settings.insecure_deterministic_noise
        return Terms(
            session=configuration.session,
            configuration=configuration.hash,
            mechanism=NO_MECHANISM if plan is None else self._mechanism,
            noise=NO_NOISE if plan is None else INSECURE_NOISE if insecure else KEYSTREAM_NOISE,
            unit=IMAGE if plan is None else plan.unit,
            noise_multiplier=None if plan is None else plan.noise_multiplier,
            sample_rate=training.sample_rate,
            max_steps=configuration.planned_steps(self._settings.name),
            delta=None if plan is None else plan.delta,
            epsilon_budget=None if plan is None else plan.epsilon_budget,
            declared_records=declared_records,
            composition=composition,
            rdp_order=order,
        )

    def _plan_body(self, planned: PlannedSession, plan: PrivacyPlan) -> dict[str, Any]:
        epsilon = self._epsilon_of(plan.noise_multiplier, plan.sample_rate, plan.max_steps, plan.delta)
        costs = [one.terms.cost for one in self.ledger.counted(planned)]
        order = planned.terms.rdp_order
        rdp = None if order is None else planned_rdp_of(costs, order)
        return plan_body(planned, epsilon, sum_of_plans(costs, self._epsilon_of), rdp)

    def _check_noise(self, *, private: bool) -> None:
        insecure = self._settings.insecure_deterministic_noise
        if insecure and private and self.policy.require_differential_privacy:
            raise PolicyRefused(
                "noise that follows from a seed protects nobody (insecure_deterministic_noise)",
                rule="require_differential_privacy",
            )

    def _with_rule(self, earlier: Sequence[PlannedSession], terms: Terms) -> Terms:
        """Return a session's terms with the rule of composition that its images have, where they have one."""
        rules = _rules(one.terms for one in earlier)
        if len(rules) != 1 or not self.policy.keeps(rules[0]):
            return terms  # a new data set; or `_admit` says what does not fit
        composition, order = rules[0]
        return replace(terms, composition=composition, rdp_order=order)

    def _admit(self, earlier: Sequence[PlannedSession], terms: Terms) -> None:
        """Judge a session by the policy, next to the sessions that count."""
        if not terms.private:
            return  # only a policy without require_differential_privacy lets one come this far
        self._check_unit(earlier, terms)
        self._check_rule(earlier, terms)
        try:
            allowance = replace(
                self.policy.allowance, composition=terms.composition, rdp_order=terms.rdp_order
            )
        except InvalidInput:  # lower limits than when the order was fixed
            raise PolicyRefused(
                f"at Rényi order {terms.rdp_order:.6g}, which these images keep, epsilon"
                f" {self.policy.max_epsilon:g} and delta {self.policy.max_delta:g} allow nothing: raise"
                " max_epsilon in policy.yaml",
                rule="max_epsilon",
            ) from None
        check_allowance(allowance, [one.terms.cost for one in earlier], terms.cost, self._epsilon_of)

    def _check_rule(self, earlier: Sequence[PlannedSession], terms: Terms) -> None:
        """Hold the rule of composition against the policy's and that of the sessions that count."""
        before = _rules(one.terms for one in earlier)
        for rule in before or [(terms.composition, terms.rdp_order)]:
            if not self.policy.keeps(rule):
                raise PolicyRefused(
                    f"the rule for these images was fixed with their first session: {_named(rule)}. Write"
                    f" {_lines(rule)} into policy.yaml; or leave the entry out, then every data set keeps its"
                    " own",
                    rule="composition",
                )
        both = list(dict.fromkeys((*before, (terms.composition, terms.rdp_order))))
        if len(both) > 1:
            raise PolicyRefused(
                "sessions on these images were accepted under rules that do not add up:"
                f" {' and '.join(_named(rule) for rule in both)}. Images of one data set alone, in a new"
                " session, keep theirs",
                rule="composition",
            )

    def _check_policys_unit(self, terms: Terms) -> None:
        """Hold a session's unit against the policy's, also of one that has begun and is offered again."""
        if terms.private and self.policy.privacy_unit == PERSON != terms.unit:
            raise PolicyRefused(
                "the images have no subjects, so privacy would be per image, not per person: give a manifest"
                " with the column subject",
                rule="privacy_unit",
            )

    def _check_unit(self, earlier: Sequence[PlannedSession], terms: Terms) -> None:
        """Hold a session's unit of privacy against the policy's, and that of the sessions that count.

        ε for persons and ε for images do not add up, in either direction (`fedapt_secure.privacy.unit`).
        """
        self._check_policys_unit(terms)
        for one in (planned.terms for planned in earlier):
            if one.private and one.unit != terms.unit:
                back = "put the column subject back" if one.unit == PERSON else "leave the column subject out"
                raise PolicyRefused(
                    f"what privacy counts was fixed with the first session on these images: {said(one.unit)};"
                    f" this one would be {said(terms.unit)}, and the two do not add up: {back}",
                    rule="privacy_unit",
                )


def _rules(sessions: Iterable[Terms]) -> list[Rule]:
    """Return the rules under which private sessions were accepted, without repetition."""
    return list(dict.fromkeys((one.composition, one.rdp_order) for one in sessions if one.private))


def _named(rule: Rule) -> str:
    composition, order = rule
    return composition if order is None else f"{composition} of order {order:.6g}"


def _lines(rule: Rule) -> str:
    """Return a rule as the entries of a policy, in full: a rounded order would be another one."""
    composition, order = rule
    return f"'composition: {composition}'" + ("" if order is None else f" and 'rdp_order: {order!r}'")
