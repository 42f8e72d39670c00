"""What an offered session says, line by line, in words: on a terminal and on a page alike."""

from typing import Any, Final

from fedapt_secure.privacy.unit import counted, said

MOST_CLASSES_SHOWN: Final = 20


def offer_rows(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return titles and texts, in the order in which they are shown; an empty title goes on with the last.

    Args:
        fields: As `fedapt_client.offer_facts.offer_fields` returns them.
    """
    classes, model = fields["class_names"], fields["model_hash"][:16]
    more = ", ..." if len(classes) > MOST_CLASSES_SHOWN else ""
    institutions, deadlines = fields["institutions"], fields["deadlines_s"]
    return [
        ("purpose", fields["purpose"] or "the coordinator states none"),
        ("session", fields["session"]),
        ("classes", f"{len(classes)}: {', '.join(classes[:MOST_CLASSES_SHOWN])}{more}"),
        ("model", f"{fields['model']}, all of it {model} ({fields['activation']})"),
        ("training", f"{fields['rounds']} rounds of {fields['round']}"),
        *([] if fields["supervision"] == "labels" else [("without labels", fields["supervision"])]),
        ("prior weight", _prior_weight(fields)),
        ("privacy", _privacy(fields["privacy"])),
        *([] if fields["privacy"] is None else [("", _share(fields["privacy"]))]),
        ("images", _images(fields["minima"])),
        ("aggregation", fields["secure_aggregation"]),
        ("", _hides(fields)),
        ("participants", _participants(fields)),
        *([] if fields["participation"] == "all" else [("this institution", fields["said_of_rounds"])]),
        *((f"  {one['name']}", f"{one['domain']}, {one['fingerprint']}") for one in institutions),
        ("coordinator", fields["coordinator_fingerprint"]),
        (
            "deadlines",
            f"training {deadlines['training']:g} s, other phases {deadlines['phase']:g} s, gathering"
            f" {deadlines['gathering']:g} s, and what messages take at {fields['minimum_rate_kbit_s']:g}"
            " kbit/s",
        ),
        ("hash", fields["hash"]),
    ]


def _prior_weight(fields: dict[str, Any]) -> str:
    expects = fields["prior_weight_expects"]
    said = f"{fields['prior_weight']:g} of the finished model stays the untuned CLIP's"
    if expects is None or fields["privacy"] is None:
        return said
    return f"{said}, for epsilon {expects['epsilon']:g} and {expects['records']} records at each institution"


def _participants(fields: dict[str, Any]) -> str:
    institutions, threshold = len(fields["institutions"]), fields["threshold"]
    if fields["participation"] == "all":
        return f"{institutions}, a round needs {threshold}"
    size = fields["cohort_size"]
    return f"{institutions}; a round has {size} of them, one of each domain, and needs {threshold}"


def _images(minima: dict[str, int | None]) -> str:
    """Return how many training images and persons the policy asks for, beside how many there may be."""
    words, refused = [], ""
    for what, asked, there in (
        ("training images", minima["minimum_records"], minima["records_at_most"]),
        ("persons", minima["minimum_persons"], minima["persons_at_most"]),
    ):
        if there is not None:
            words.append(f"at most {there} {what}, the policy asks for {asked}")
            refused = ". WOULD BE REFUSED" if there < (asked or 0) else refused
    return "; ".join(words) + refused or "cannot be read yet: 'fedapt-secure client doctor' says why"


def _hides(fields: dict[str, Any]) -> str:
    """Return what sums hide of this institution, what the policy asks for, and who gets the bundle."""
    words: str = fields["said_of_sums"]
    found, needed = fields["institutions_on_our_key"], fields["minimum_institutions_per_key"]
    if fields["secure_aggregation"] != "none":
        refused = "" if found >= needed else ". WOULD BE REFUSED"
        words += f"; the policy asks for {needed}{refused}"
    if fields["bundle_for_coordinator"]:
        words += "; the coordinator knows all keys and may have the finished bundle"
    return words


def _privacy(privacy: dict[str, Any] | None) -> str:
    if privacy is None:
        return "none: differential privacy is off"
    delta = privacy["delta"]
    unit = privacy["unit"]
    counts = "records" if unit is None else counted(unit)
    most = f"{privacy['session_delta']:g}"
    shown = f"{delta:g}" if delta is not None else f"1/(2 x {counts}) and at most {most}"
    per = "per image or per person, as the data will say" if unit is None else said(unit)
    return (
        f"epsilon {privacy['epsilon']:g} at most, delta {shown}; {privacy['steps']} steps with sampling rate"
        f" {privacy['sample_rate']:g}, clipping at {privacy['max_grad_norm']:g}; {per}"
    )


def _share(privacy: dict[str, Any]) -> str:
    """Return what the policy allows one session, of how much in all; and whether this one asks for more."""
    share = (
        f"the policy ({privacy['policy_source']}) allows one session epsilon"
        f" {privacy['session_epsilon']:g} and delta {privacy['session_delta']:g}, all sessions on"
        f" the same images {privacy['max_epsilon']:g} and {privacy['max_delta']:g}"
    )
    over = [
        name
        for name in ("epsilon", "delta")
        if privacy[name] is not None and privacy[name] > privacy[f"session_{name}"]
    ]
    if not over:
        return share
    asked = " and ".join(f"dp_{name} {privacy[name]:g}" for name in over)
    return f"{share}. WOULD BE REFUSED: client.yaml asks for {asked}"
