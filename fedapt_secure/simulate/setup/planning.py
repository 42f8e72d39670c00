"""The session plan of a simulated run, from its options."""

from collections.abc import Sequence
from dataclasses import asdict

from fedapt_secure.config.key_use import MULTIPLY, UNIFORM
from fedapt_secure.config.simulate import AUTO, KEY_EACH, SimulateSettings
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.dealing import DealtDataset
from fedapt_secure.protocol.key_assignment import assign_keys
from fedapt_secure.protocol.methods import FEDPROX, ZERO_SHOT, method_facts
from fedapt_secure.protocol.plan import ExpectedBudget, SessionPlan
from fedapt_secure.simulate.engines.patience import gather_timeout_s, phase_timeout_s, round_timeout_s
from fedapt_secure.simulate.setup.policies import exchange_of
from fedapt_secure.simulate.setup.recipe import recipe_of
from fedapt_secure.simulate.setup.unsupervised import (
    start_of_contexts,
    unsupervised_plan,
)

DEFAULT_PROXIMAL_WEIGHT = {FEDPROX: 0.01}
"""μ of the middle of what Li et al. 2020 tried; 0 would be FedAvg."""


def session_plan(
    settings: SimulateSettings, dataset: DealtDataset, backbone: Backbone, declared: Sequence[int]
) -> SessionPlan:
    """Return the session of a run: what is trained, and how.

    Args:
        settings: What was asked for.
        dataset: Who holds which images.
        backbone: The frozen CLIP.
        declared: N̂ of each institution; none without differential privacy.

    Raises:
        InvalidInput: If there cannot be as many domain keys as asked for.
    """
    recipe = recipe_of(settings)
    facts, institutions = method_facts(settings.method), len(dataset.institutions)
    # By themselves institutions have nobody to exchange rounds with: all steps follow each other.
    rounds = settings.rounds if facts.federated else 1
    return SessionPlan(
        class_names=dataset.class_names,
        domains=dataset.domains,
        zero_shot_template=dataset.zero_shot_template,
        model=settings.model,
        pretrained=settings.pretrained,
        weight_hash=backbone.weight_hash,
        model_identity=backbone.identity,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        context_tokens=settings.context_tokens,
        class_specific=not settings.shared_context and facts.class_specific is not False,
        method=settings.method,
        tower_values=backbone.image_tower_values if facts.never_private else 0,
        rounds=rounds,
        local_steps=settings.rounds * settings.local_steps // rounds,
        sample_rate=settings.sample_rate,
        batch_size=settings.batch_size,
        local_epochs=settings.rounds * settings.local_epochs // rounds if settings.batch_size else 1,
        **asdict(recipe),
        gradient_units=settings.gradient_units,
        prior_weight=None if settings.prior_weight == AUTO else settings.prior_weight,
        expected=_expected(settings, declared),
        weight_decay=settings.weight_decay,
        proximal_weight=_proximal_weight(settings),
        differential_privacy=not settings.no_dp and settings.method != ZERO_SHOT,
        secure_aggregation=exchange_of(settings),
        participation=settings.participation if facts.federated else "all",
        clip=settings.update_clip,
        temperature=settings.temperature,
        keys=_key_count(settings, dataset) if facts.uses_keys else None,
        key_fusion=settings.key_fusion if facts.uses_keys else MULTIPLY,
        key_values=settings.key_values if facts.uses_keys else UNIFORM,
        initial_seed=settings.seed,
        initial_context=start_of_contexts(settings, backbone),
        unsupervised=unsupervised_plan(settings) if settings.method != ZERO_SHOT else None,
        round_timeout_s=round_timeout_s(institutions),
        phase_timeout_s=phase_timeout_s(institutions),
        gather_timeout_s=gather_timeout_s(institutions),
        # One operator has every folder anyway, and the seed of a run is to decide its keys as well.
        bundle_for_coordinator=True,
        return_timeout_s=0.0,  # nobody is there who could mend anything: who refuses ends the run
    )


def _key_count(settings: SimulateSettings, dataset: DealtDataset) -> int | None:
    held = [one.domain_index for one in dataset.institutions]
    if settings.keys is None or not method_facts(settings.method).federated:
        return None
    count = len(held) if settings.keys == KEY_EACH else settings.keys
    assign_keys(held, len(dataset.domains), count)  # says in one line where that cannot be
    return count


def _expected(settings: SimulateSettings, declared: Sequence[int]) -> ExpectedBudget:
    if settings.epsilon is None or not declared:
        return ExpectedBudget()
    # As many records as would bring the same noise into a mean if all institutions had them.
    alike = (sum(count**-2.0 for count in declared) / len(declared)) ** -0.5
    return ExpectedBudget(epsilon=settings.epsilon, delta=settings.dp_delta, records=max(1, round(alike)))


def _proximal_weight(settings: SimulateSettings) -> float:
    given = settings.proximal_weight  # 0 is a choice of its own
    return DEFAULT_PROXIMAL_WEIGHT.get(settings.method, 0.0) if given is None else given


def method_choices(settings: SimulateSettings) -> dict[str, object]:
    """Return the options that follow from method and privacy where they are left open."""
    return {
        "dp_epsilon": settings.epsilon,
        **asdict(recipe_of(settings)),
        "proximal_weight": _proximal_weight(settings),
    }
