"""Every line type a log may hold and every field of its body; ``?`` marks those that may be missing.

Whoever adds a field has to add it here, and to think about what it says about the data.
"""

from collections.abc import Mapping

PLAN = (
    "declared_records delta epsilon_budget max_steps noise_multiplier sample_rate unit warning"
    " accountant composition dataset epsilon_planned mechanism noise overlaps rdp_order spent_before"
)
HEAD = "hash log party seq signature"

BOTH = {
    "log_opened": "continues format identity log party role",
    "log_continued": "continues format identity log party role segment_of",
    "log_rotated": "segment",
    "torn_tail": "bytes file sha256",
    "clock_set_back": "clock",
    "certificate": "fingerprint name not_after not_before",
    "witnessed": "heads round session ?countersignature",
    "session_closed": "completed_rounds configuration missing model session signatures transcript",
}
COORDINATOR = BOTH | {
    "listening": "host port",
    "session_started": (
        "configuration differential_privacy institutions key_commitments participation plan"
        " roster rounds secure_aggregation session threshold"
    ),
    "session_resumed": "attempt configuration interrupted model round session",
    "connected": "name",
    "disconnected": "name",
    "turned_away": "detail",
    "ready": "name",
    "group": "session made_by commitment",
    "round_started": "attempt context model participants phase round session",
    "phase": "phase round",
    "late": "names round",
    "declined": "final name reason round",
    "rehearsal": "answers configuration",
    "left": "name reason",
    "not_waiting_for": "names",
    "cannot_continue": "reason",
    "refused": "detail error name",
    "round_ended": (
        "attempt bytes_down bytes_up context contributors detail dropped model participants round session"
        " status transcript"
    ),
    "sum_refused": "attempt detail name round",
    "closing": "completed_rounds model",
    "done": "bundle name",
    "waiting_for_return": "names",
    "session_ended": "completed_rounds done rounds session",
}
INSTITUTION = BOTH | {
    "policy": (
        "hash max_delta max_epsilon minimum_institutions_per_key minimum_participants minimum_persons"
        " minimum_records max_unused"
        " require_differential_privacy share_metrics"
        " aggregation composition rdp_order source coordinators max_message_bytes unattended"
        " privacy_unit session_epsilon session_delta named"
    ),
    "session_accepted": (
        "configuration key_commitments participation plan privacy roster secure_aggregation session"
        " supervision"
    ),
    "group_made": "session",
    "group": "session commitment",
    "round_joined": "attempt context model round session",
    "spend": "delta epsilon round session steps total_steps dataset noise_multiplier sample_rate",
    "phase": "phase round",
    "released": "attempt context round session ?saturated",
    "verified_sum": ("attempt contributors model model_before round session signature sum tag transcript"),
    "caught_up": "model round session stated_by",
    "unresolved": "attempt model round session survivors transcript",
    "round_ended": "attempt context contributors round session status transcript",
    "refused": "code detail error round rule session",
    "vanished": "",
    "disconnected": "reason",
    "not_closed": "session",
    "rehearsed": "configuration reason",
    "answer_time": "round seconds session",
    "session_ended": "bundle model session",
}


def check(body: Mapping[str, object], fields: str, where: str) -> None:
    """Raise AssertionError unless a body has these fields and no others."""
    names = fields.split()
    needed = {name for name in names if not name.startswith("?")}
    allowed = {name.removeprefix("?") for name in names}
    assert needed <= body.keys() <= allowed, f"{where}: {sorted(body)}"


def check_line(role: str, type: str, body: Mapping[str, object]) -> None:
    """Raise AssertionError unless a line is one that this role may write."""
    schema = COORDINATOR if role == "coordinator" else INSTITUTION
    assert type in schema, f"{role}: {type}"
    check(body, schema[type], f"{role}: {type}")
    if type == "session_accepted" and body["privacy"] is not None:
        check(body["privacy"], PLAN, "plan")
    if type == "witnessed":
        for head in body["heads"]:
            check(head, HEAD, "head")
