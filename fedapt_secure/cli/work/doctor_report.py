"""What ``client doctor`` shows: one line a check."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from fedapt_client.doctor import Finding
from fedapt_secure.cli.options import console

_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def findings_fields(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    healthy = all(finding.state != "wrong" for finding in findings)
    return {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings, each with what to do where something is to be done."""
    out = console()
    for finding in findings:
        text = finding.what + (f": {finding.advice}" if finding.advice else "")
        line = escape(f"{finding.check:<18} {text}")
        out.print(f"[{_COLOURS[finding.state]}]{finding.state:<5}[/] {line}")
