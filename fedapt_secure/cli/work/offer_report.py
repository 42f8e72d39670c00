"""How a session is shown to an institution's people on a terminal."""

from typing import Any

from fedapt_secure.cli.options import console


def print_offer(fields: dict[str, Any]) -> None:
    """Print a session for people.

    Args:
        fields: As `fedapt_client.offer_facts.offer_fields` returns them.
    """
    from rich.markup import escape  # noqa: PLC0415

    from fedapt_client.offer_words import offer_rows  # noqa: PLC0415

    out = console()
    out.print("[bold]A session is offered to this institution[/bold]")
    for title, text in offer_rows(fields):
        out.print(f"{escape(title):<18} {escape(text)}")
