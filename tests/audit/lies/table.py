"""Fields that a party can fill with anything plausible, without the audit finding it: each with the reason.

Every other field of every line is found. `test_fields` holds this table against what happens, both ways;
``python -m tests.audit.lies.page`` writes it into docs/audit.md.
"""

from typing import Final

_OWN_RULE: Final = (
    "its own rule, which nobody else is told; what it says is what the institution is held against"
)
_OWN_WHY: Final = (
    "its own words about what it turned down; the code of a declined round the coordinator has too"
)
_NOBODY_SAW: Final = "what a crash left of a file, which nobody else ever saw"
_OWN_CLOCK: Final = "its own clock; only hours of difference to others show, in the order of rounds"
_CERTIFICATE: Final = "the certificate is shown to the other end of a connection and stands in no other log"
_CONNECTION: Final = "how a connection ended looks different from its two ends"
_LEFT: Final = (
    "whoever does not take part need not keep a log of it: one with a full disk, or without approval"
)
_WAITING: Final = "for whom to wait, and how long, the coordinator decides"

SELF_REPORTED: Final[dict[tuple[str, str, str], str]] = {
    ("institution", "session_accepted", "privacy.noise_multiplier"): (
        "the noise is added at home: nobody else sees how much. ε is computed from what is stated here, and"
        " the same figure has to stand in plan and spends"
    ),
    ("institution", "spend", "noise_multiplier"): "as in the plan of its session",
    ("institution", "session_accepted", "privacy.dataset"): (
        "a random name for its images; that two data sets are distinct is not proved"
    ),
    ("institution", "spend", "dataset"): "as in the plan of its session",
    ("institution", "session_accepted", "privacy.overlaps"): (
        "which earlier data sets share images with this one, its own ledger alone knows"
    ),
    ("institution", "session_accepted", "privacy.declared_records"): (
        "how many images or persons there are is known at home; ε does not depend on it. A policy that asks"
        " for a number is held against what is stated"
    ),
    ("institution", "session_accepted", "privacy.unit"): (
        "whether images say whose they are is known at home; a policy that asks for persons is held to it"
    ),
    ("institution", "session_accepted", "privacy.delta"): (
        "its own choice within its policy; ε is computed anew at the δ that is stated"
    ),
    ("institution", "spend", "delta"): "as in the plan of its session",
    ("institution", "session_accepted", "privacy.epsilon_budget"): (
        "what it asked for; what counts is what its plan implies, and that is computed anew"
    ),
    ("institution", "session_accepted", "privacy.composition"): (
        "fixed with the data set's first session, which may stand in another federation's log"
    ),
    (
        "institution",
        "session_accepted",
        "privacy.rdp_order",
    ): "fixed like the rule; any order gives a bound that holds",
    ("institution", "policy", "aggregation"): _OWN_RULE,
    ("institution", "policy", "composition"): _OWN_RULE,
    ("institution", "policy", "coordinators"): _OWN_RULE,
    ("institution", "policy", "max_delta"): _OWN_RULE,
    ("institution", "policy", "max_epsilon"): _OWN_RULE,
    ("institution", "policy", "max_message_bytes"): _OWN_RULE,
    ("institution", "policy", "minimum_institutions_per_key"): _OWN_RULE,
    ("institution", "policy", "minimum_participants"): _OWN_RULE,
    ("institution", "policy", "minimum_persons"): _OWN_RULE,
    ("institution", "policy", "minimum_records"): _OWN_RULE,
    ("institution", "policy", "max_unused"): _OWN_RULE,
    ("institution", "policy", "named"): _OWN_RULE,
    ("institution", "policy", "rdp_order"): _OWN_RULE,
    ("institution", "policy", "require_differential_privacy"): _OWN_RULE,
    ("institution", "policy", "session_delta"): _OWN_RULE,
    ("institution", "policy", "session_epsilon"): _OWN_RULE,
    ("institution", "policy", "share_metrics"): _OWN_RULE,
    ("institution", "policy", "unattended"): _OWN_RULE,
    ("institution", "policy", "source"): "the name of a file on its own disk",
    ("institution", "released", "saturated"): "how many values met the clip is counted at home",
    ("institution", "answer_time", "seconds"): "measured at home; what was spent does not depend on it",
    ("institution", "caught_up", "stated_by"): (
        "who stated a model to it came in one message; the model itself is held against all others"
    ),
    ("institution", "unresolved", "transcript"): (
        "for which set it revealed shares; held against the attempt's end where that came. A set that was"
        " signed twice shows by the contributors"
    ),
    ("institution", "refused", "code"): _OWN_WHY,
    ("institution", "refused", "detail"): _OWN_WHY,
    ("institution", "refused", "error"): _OWN_WHY,
    ("institution", "refused", "round"): _OWN_WHY,
    ("institution", "refused", "rule"): _OWN_WHY,
    ("institution", "refused", "session"): _OWN_WHY,
    ("institution", "disconnected", "reason"): _CONNECTION,
    ("institution", "certificate", "fingerprint"): _CERTIFICATE,
    ("institution", "certificate", "not_after"): _CERTIFICATE,
    ("institution", "certificate", "not_before"): _CERTIFICATE,
    ("institution", "clock_set_back", "clock"): _OWN_CLOCK,
    ("institution", "torn_tail", "bytes"): _NOBODY_SAW,
    ("institution", "torn_tail", "file"): _NOBODY_SAW,
    ("institution", "torn_tail", "sha256"): _NOBODY_SAW,
    ("coordinator", "certificate", "fingerprint"): _CERTIFICATE,
    ("coordinator", "certificate", "not_after"): _CERTIFICATE,
    ("coordinator", "certificate", "not_before"): _CERTIFICATE,
    ("coordinator", "clock_set_back", "clock"): _OWN_CLOCK,
    ("coordinator", "torn_tail", "bytes"): _NOBODY_SAW,
    ("coordinator", "torn_tail", "file"): _NOBODY_SAW,
    ("coordinator", "torn_tail", "sha256"): _NOBODY_SAW,
    ("coordinator", "listening", "host"): "its own address",
    ("coordinator", "listening", "port"): "its own address",
    ("coordinator", "turned_away", "detail"): "who was turned away is no party and keeps no log",
    ("coordinator", "declined", "final"): "whether somebody meant only this round decides whom it asks next",
    ("coordinator", "late", "names"): "whoever was late may be lost besides, of which another line tells",
    ("coordinator", "refused", "detail"): "its own words about what it turned down",
    ("coordinator", "refused", "error"): "its own words about what it turned down",
    ("coordinator", "refused", "name"): "whose message it turned down, its sender need not know",
    ("coordinator", "cannot_continue", "reason"): "its operator's words, or its own",
    ("coordinator", "done", "name"): (
        "a crash may take such a line; what counts is the signature on the session's end, which is checked"
    ),
    ("coordinator", "left", "name"): _LEFT,
    ("coordinator", "left", "reason"): _LEFT,
    ("coordinator", "disconnected", "name"): _CONNECTION,
    ("coordinator", "not_waiting_for", "names"): _WAITING,
    ("coordinator", "waiting_for_return", "names"): _WAITING,
    ("coordinator", "round_ended", "bytes_down"): "counted by itself, and no figure follows from it",
    ("coordinator", "round_ended", "bytes_up"): "counted by itself, and no figure follows from it",
    ("coordinator", "round_ended", "detail"): "its own words about why a round came to nothing",
}
"""Role, type of line and field to the reason."""
