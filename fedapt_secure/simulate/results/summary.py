"""What a run came to, gathered from the parties' logs and their own evaluations: ``summary.json``."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fedapt_client.training.kept_models import MODEL_FILE
from fedapt_crypto.errors import RunFailed
from fedapt_crypto.private_files import write_atomically
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.inference.pictures import can_draw, draw_confusion, draw_routing
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.learning.evaluation.scores import ORACLE_ROUTING, UNIFORM_ROUTING
from fedapt_secure.learning.evaluation.tally import Tally, class_fields, routing_matrix
from fedapt_secure.log.follower import LONG, LogFollower
from fedapt_secure.log.line import LogEntry
from fedapt_secure.log.reader import read_log
from fedapt_secure.protocol.methods import LOCAL, method_facts
from fedapt_secure.simulate.results.unseen import score_unseen
from fedapt_secure.simulate.setup.federation import Federation

Summary = dict[str, Any]


def summarise(federation: Federation, seconds_total: float) -> Summary:
    """Gather the summary of a finished run, write it, and put the bundle into the run folder.

    Accuracies are fractions of the held-out images; a domain's figure pools its institutions, the mean
    is over domains. Where each institution has a model of its own (`local`), they are averages over these
    models, and ``own_domain`` says what each model does on its own institution's images. One operator owns
    every party of a simulation and may see them. Institutions that the engine lost for good are ``away``, and
    counted nowhere.

    Raises:
        RunFailed: If an institution did not conclude, or two of them hold different bundles.
    """
    folder, scores = federation.folder, _evaluations(federation)
    away = [name for name in federation.institutions if name not in scores]
    method, facts = federation.settings.method, method_facts(federation.settings.method)
    if method != LOCAL:  # there each institution has its own
        _publish_bundle(federation, scores)
    routes = facts.uses_keys
    bundle = None if method == LOCAL else read_bundle(folder.model)
    keys = bundle.key_names if bundle is not None and routes else ()
    tallies = _tallies(federation, scores)
    total = sum(tallies.values(), Tally())
    summary: Summary = {
        "accuracy": {
            "zero_shot": _by_domain(federation, scores, "zero_shot_correct"),
            method: _by_domain(federation, scores, "tuned_correct"),
        },
        "own_domain": _by_domain(federation, scores, "own_correct", "own_records")
        if method == LOCAL
        else None,
        "top_5": _mean_over({name: tally.top_5_accuracy for name, tally in tallies.items() if tally.images}),
        "per_class": _classes(federation, total, scores),
        "confusion": total.confusion(len(federation.dataset.class_names)).tolist(),
        "method": method,
        "parameters": {"trained": federation.plan.shape.size, "model": federation.model_values},
        "supervision": federation.plan.supervision,
        "prior_weight": None if bundle is None else bundle.prior_weight,
        "routing": _by_domain(federation, scores, "routed_correct") if routes else None,
        "accuracy_by_routing": _by_routing(federation, scores) if routes else None,
        "keys": list(keys) if routes else None,
        "routing_counts": routing_matrix(tallies, len(keys)).tolist() if routes else None,
        "synthetic": federation.dataset.synthetic,
        "away": away,
        "unseen": _unseen(federation, keys),
        "private": federation.settings.not_private is None,
        "not_private_because": federation.settings.not_private,
        "privacy": _privacy(federation),
        "rounds": _rounds(list(read_log(folder.log(COORDINATOR)))) if facts.federated else [],
        "secure_aggregation": federation.settings.secure_aggregation if facts.federated else None,
        "device": federation.device,
        "precision": federation.precision,
        "seconds_total": round(seconds_total, 3),
    }
    data = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_atomically(folder.summary, data.encode(), mode=PUBLIC_FILE_MODE)
    return summary


def _classes(
    federation: Federation, total: Tally, scores: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    untuned: Counter[int] = Counter()
    for one in scores.values():
        untuned.update(dict(one["zero_shot_by_class"]))
    return class_fields(total, federation.dataset.class_names, untuned)


def _unseen(federation: Federation, keys: tuple[str, ...]) -> dict[str, Any] | None:
    scores = score_unseen(federation)
    return None if scores is None else scores.to_fields(federation.dataset.class_names, keys)


def write_pictures(federation: Federation, summary: Summary) -> None:
    """Draw what was taken for what, and whose knowledge was used, into the run folder.

    Without matplotlib (extra ``[plots]``) nothing is drawn: the summary has the figures.

    Raises:
        InvalidInput: If the files cannot be written.
    """
    if not can_draw():
        return
    folder, domains = federation.folder.pictures, federation.dataset.domains
    draw_confusion(folder, np.array(summary["confusion"]), federation.dataset.class_names)
    routed, unseen = summary["routing_counts"], summary["unseen"]
    if unseen is not None:
        draw_confusion(folder / "unseen", np.array(unseen["confusion"]), federation.dataset.class_names)
    if routed is not None and unseen is not None:
        routed = [*routed, list(unseen["routing_counts"].values())]
        domains = (*domains, f"{unseen['domain']} (unseen)")
    if routed is not None:
        draw_routing(folder, np.array(routed), domains, summary["keys"])


def _publish_bundle(federation: Federation, names: Iterable[str]) -> None:
    folder = federation.folder
    bundles = {(folder.party(name) / MODEL_FILE).read_bytes() for name in names}
    if len(bundles) != 1:
        raise RunFailed("the institutions hold different bundles; this must not happen, please report it")
    write_atomically(folder.model, bundles.pop(), mode=PUBLIC_FILE_MODE)


def _evaluations(federation: Federation) -> dict[str, Mapping[str, Any]]:
    """Return what each institution counted; without those that were lost."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in federation.institutions:
        path = federation.folder.party(name) / "evaluation.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
        elif name not in federation.engine.lost:
            raise RunFailed(f"{name} did not finish its evaluation; its log says why")
    if not found:
        raise RunFailed("every institution was lost before its evaluation")
    return found


def _tallies(federation: Federation, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Tally]:
    tallies = {domain: Tally() for domain in federation.dataset.domains}
    for member in federation.roster.members:
        if member.name in scores:
            tallies[federation.dataset.domains[member.domain_index]] += Tally.from_fields(scores[member.name])
    return tallies


def _by_domain(
    federation: Federation,
    scores: Mapping[str, Mapping[str, Any]],
    correct: str,
    records: str = "test_records",
) -> dict[str, Any]:
    right: dict[int, int] = defaultdict(int)
    total: dict[int, int] = defaultdict(int)
    for member in federation.roster.members:
        if member.name not in scores:
            continue
        right[member.domain_index] += scores[member.name][correct]
        total[member.domain_index] += scores[member.name][records]
    domains = federation.dataset.domains
    # A domain without held-out images has no accuracy, least of all one of 0 %.
    return _mean_over(
        {domains[index]: right[index] / total[index] for index in sorted(total) if total[index]}
    )


def _by_routing(federation: Federation, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the finished model would do with other routing than its own."""
    flat = {name: one | one["correct_by_routing"] for name, one in scores.items()}
    return {how: _by_domain(federation, flat, how) for how in (UNIFORM_ROUTING, ORACLE_ROUTING)}


def _mean_over(per_domain: dict[str, float]) -> dict[str, Any]:
    return {"mean": sum(per_domain.values()) / max(1, len(per_domain)), "per_domain": per_domain}


def _privacy(federation: Federation) -> dict[str, Any]:
    """Return what each institution planned and spent, as its own log has it; empty without DP."""
    privacy: dict[str, Any] = {}
    for name in federation.institutions:
        plan: Mapping[str, Any] | None = None
        spent: Mapping[str, Any] = {"epsilon": 0.0, "total_steps": 0}
        for entry in LogFollower(federation.folder.log(name), leave_out=LONG).new_entries():
            if entry.type == "session_accepted":
                plan = entry.body["privacy"] or plan
            elif entry.type == "spend":
                spent = entry.body
        if plan is not None:
            privacy[name] = {
                "unit": plan["unit"],
                "noise": plan["noise"],
                "epsilon_budget": plan["epsilon_budget"],
                "epsilon_spent": spent["epsilon"],
                "delta": plan["delta"],
                "noise_multiplier": plan["noise_multiplier"],
                "sample_rate": plan["sample_rate"],
                "steps": spent["total_steps"],
                "declared_records": plan["declared_records"],
            }
    return privacy


def _rounds(entries: list[LogEntry]) -> list[dict[str, Any]]:
    rounds = []
    started = None
    for entry in entries:
        if entry.type == "round_started":
            started = entry.time
        elif entry.type == "round_ended":
            body, began, started = entry.body, started or entry.time, None
            rounds.append(
                {
                    "round": body["round"],
                    "attempt": body["attempt"],
                    "status": body["status"],
                    "participants": body["participants"],
                    "contributors": body["contributors"],
                    "dropped": body["dropped"],
                    "seconds": round((entry.time - began).total_seconds(), 4),
                    "bytes_up": body["bytes_up"],
                    "bytes_down": body["bytes_down"],
                }
            )
    return rounds
