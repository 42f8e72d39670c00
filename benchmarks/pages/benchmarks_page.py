"""Renew the part of `docs/benchmarks.md` that shows results: nobody types their figures.

python -m benchmarks.pages.benchmarks_page             # renew it from benchmarks/results
python -m benchmarks.pages.benchmarks_page --check     # exit status 1 where it is not up to date
"""

import json
import sys
from pathlib import Path

from benchmarks.harness import RESULTS, section, with_section

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN = "<!-- results: renewed by `python -m benchmarks.pages.benchmarks_page`, do not edit -->"
END = "<!-- end of results -->"
ORDER = ("training_step", "dp_step", "dp_utility", "inference", "simulate_time", "wire")
PICTURES = {"simulate_time": ("simulate_time.svg", "Shares of the time of a whole run and of a round")}


def rendered(results: Path = RESULTS) -> str:
    """Return the Markdown of all results that are there, in the order of the page.

    Raises:
        SystemExit: If a result is from a run with ``--quick``, which gives no figures.
    """
    parts = []
    for name in ORDER:
        path = results / f"{name}.json"
        if not path.exists():
            continue
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["quick"]:
            raise SystemExit(f"{path} is from a quick run: measure again without --quick")
        parts.append(section(fields))
        if name in PICTURES:
            file, caption = PICTURES[name]
            parts.append(f"![{caption}](../benchmarks/results/{file})\n")
    return "\n".join(parts)


def renewed(text: str, results: Path = RESULTS) -> str:
    """Return the page with its results renewed.

    Raises:
        SystemExit: If the page has no place for them.
    """
    return with_section(text, BEGIN, END, rendered(results))


def renew() -> None:
    """Write the page anew."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Renew or check the page."""
    if "--check" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        return int(renewed(text) != text)
    renew()
    return 0


if __name__ == "__main__":
    sys.exit(main())
