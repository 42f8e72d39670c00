"""The session that waits for people, as the institution's process leaves it in its folder for a page.

It holds what ``client run`` prints, computed by the process that will ask again before anything is sent: what
is agreed to is the hash of the whole configuration, whatever this file says.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import system_error
from fedapt_crypto.private_files import write_atomically

OFFER_FILE: Final = "offer.json"
Fields = dict[str, Any]


def write_offer(folder: Path, fields: Fields) -> None:
    """Leave an offer for people to read.

    Args:
        folder: The party's folder.
        fields: As `fedapt_client.offer_facts.offer_fields` returns them.

    Raises:
        InvalidInput: If it cannot be written.
    """
    before = read_offer(folder)
    if before is not None and before["fields"].get("hash") == fields["hash"]:
        return  # the same, offered again
    content = {
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "fields": fields,
        "changes": [] if before is None else roster_changes(before["fields"], fields),
    }
    try:
        write_atomically(folder / OFFER_FILE, json.dumps(content).encode())
    except OSError as error:
        raise system_error(f"{folder / OFFER_FILE} cannot be written", error) from None


def roster_changes(before: Fields, now: Fields) -> list[str]:
    """Return what is different among the institutions of two offers, in words.

    Args:
        before: The earlier one.
        now: The later one; both as `fedapt_client.offer_facts.offer_fields` returns them.
    """
    old, new = ({one["name"]: one for one in each["institutions"]} for each in (before, now))
    found = [f"{name} is not among them any more" for name in old if name not in new]
    for name, one in new.items():
        if name not in old:
            found.append(f"{name} is new")
            continue
        if one["fingerprint"] != old[name]["fingerprint"]:
            found.append(f"{name} has another key: before it was {old[name]['fingerprint']}")
        if one["domain"] != old[name]["domain"]:
            found.append(f"{name} was in the domain {old[name]['domain']}, now it is in {one['domain']}")
    if before["coordinator_fingerprint"] != now["coordinator_fingerprint"]:
        found.append(f"the coordinator has another key: before it was {before['coordinator_fingerprint']}")
    return found


def read_offer(folder: Path) -> Fields | None:
    """Return the offer that was left last; ``None`` where there is none that can be read."""
    path = folder / OFFER_FILE
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("fields"), dict) else None
