"""Why a connection was turned away or cut: the words that ports, log and metrics share."""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a connection was turned away or cut; the label of a metric, so there are these and no others."""

    NOT_TLS = "not_tls"
    NO_HELLO = "no_hello"
    CROWDED = "crowded"
    HANDSHAKE = "handshake"
    REVOKED = "revoked"
    TOO_OFTEN = "too_often"
    TOO_MANY = "too_many"
    GREETING = "greeting"
    REPLACED = "replaced"
    TOO_FAST = "too_fast"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    UNREAD = "unread"
    MISBEHAVED = "misbehaved"
