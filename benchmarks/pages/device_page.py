"""The section of docs/benchmarks.md about a GPU, from the figures of a run: nobody types them."""

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN = "<!-- gpu: renewed by `python -m benchmarks.device.gpu --render gpu.json`, do not edit -->"
END = "<!-- end of gpu -->"

Rows = list[dict[str, Any]]


def renew(found: dict[str, Any], page: Path = PAGE) -> None:
    """Write the section into the page.

    Args:
        found: What `benchmarks/device/gpu.py --json` wrote.
        page: A page with both marks.

    Raises:
        ValueError: If a mark is missing.
    """
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{section(found)}{END}{after}")


def section(found: dict[str, Any]) -> str:
    """Return the section's text."""
    facts, parts = found["facts"], found["found"]
    lines = [
        f"{facts['device']}, {facts['cores']} cores, torch {facts['torch']}, Python {facts['python']},"
        f" {facts['date']}; random weights, medians.",
        "",
    ]
    if "note" in facts:
        lines += [str(facts["note"]), ""]
    if found.get("cut"):
        lines += ["The run was cut by a time limit: some parts are missing.", ""]
    for title, make in _TABLES:
        rows = make(parts)
        if rows:
            lines += [f"**{title}**", "", *_table(rows), ""]
    if found["faults"]:
        lines += ["Faults: " + "; ".join(one["what"] for one in found["faults"]) + ".", ""]
    return "\n".join(lines)


def _ceilings(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "": row["what"],
            "measured": f"{row['tflop_s']:.0f} TFLOP/s" if "tflop_s" in row else f"{row['gb_s']:,.0f} GB/s",
        }
        for row in parts.get("ceilings", [])
    ]


def _steps(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "model": row["model"],
            "precision": row["precision"],
            "context": row["context"],
            "classes": row["classes"],
            "batch": f"{row['batch']:,}",
            "steps/s": f"{row['steps_s']:.1f}",
            "step, ms": f"{row['ms']:.1f}",
            "text tower, ms": f"{row['text_tower_ms']:.1f}",
            "without replay": _or_nothing(row, "text_plain_ms", ".1f"),
            "heads, clipping, noise, ms": f"{row['heads_clip_noise_ms']:.1f}",
            "of it noise": f"{row['noise_cpu_ms']:.1f}",
            "text tower, share of peak": _or_nothing(row, "text_share_of_peak", ".0%"),
        }
        for row in parts.get("steps", [])
    ]


def _replay(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "model": row["model"],
            "precision": row["precision"],
            "context": row["context"],
            "classes": row["classes"],
            "plain, ms": f"{row['text_plain_ms']:.1f}",
            "replayed, ms": f"{row['text_tower_ms']:.1f}",
            "times faster": f"{row['replay_times_faster']:.1f}",
            "recording, s": f"{row['recording_s']:.2f}",
            "memory kept, MiB": f"{row['recording_mib']:,.0f}",
        }
        for row in parts.get("steps", [])
        if "recording_s" in row and row["batch"] == max(one["batch"] for one in parts["steps"])
    ]


def _images(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "what": row["what"],
            "model": row["model"],
            "precision": row["precision"],
            "images/s": f"{row['images_s']:,.0f}",
            "share of peak": _or_nothing(row, "share_of_peak", ".0%"),
            "compiling, s": _or_nothing(row, "compile_s", ".0f"),
            "pays after images": _or_nothing(row, "pays_after_images", ",.0f"),
        }
        for row in parts.get("images", [])
    ]


def _files(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "what": row["what"],
            "model": row.get("model", ""),
            "threads": row["threads"],
            "torch threads": row.get("torch_threads", ""),
            "images/s": f"{row['images_s']:,.0f}",
        }
        for row in parts.get("files", [])
        if "images_s" in row
    ]


def _predicting(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "model": row["model"],
            "classes": row["classes"],
            "images/s": f"{row['images_s']:,.0f}",
            "image tower alone": f"{row['tower_images_s']:,.0f}",
            "prompts, once, s": f"{row['prompts_once_s']:.2f}",
        }
        for row in parts.get("predicting", [])
    ]


def _exactness(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "what": row["what"],
            "precision": row["precision"],
            "relative error": f"{row['error']:.1e}",
            "bound": f"{row['bound']:.1e}",
            "": "held" if row["passed"] else "broken",
        }
        for row in parts.get("exactness", [])
    ]


def _task(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "": row["what"],
            "seeds": row["seeds"],
            "mean accuracy": f"{row['mean']:.2f}",
            "mean difference, points": f"{row['difference_points']:+.2f}",
            "largest of one seed": f"{row['largest_difference']:.2f}",
        }
        for row in parts.get("default task", [])
    ]


def _compiled_text(parts: dict[str, Rows]) -> Rows:
    return [
        {
            "model": row["model"],
            "classes": row["classes"],
            "mode": row["mode"],
            "plain, ms": f"{row['plain_ms']:.1f}",
            "compiled, ms": f"{row['ms']:.1f}",
            "compiling, s": f"{row['compile_s']:.0f}",
            "pays after steps": _or_nothing(row, "pays_after_steps", ",.0f"),
        }
        for row in parts.get("compiled text tower", [])
    ]


_TABLES = (
    ("What the device does at best", _ceilings),
    ("Private training steps", _steps),
    ("Text tower, there and back, replayed as CUDA graphs", _replay),
    ("Images", _images),
    ("Image files, 500 x 375 pixels", _files),
    ("Prediction, features from pixels on the device", _predicting),
    ("Against float64 on the CPU", _exactness),
    ("Default task without privacy, against float32 on the CPU", _task),
    ("torch.compile of the text tower", _compiled_text),
)


def _or_nothing(row: dict[str, Any], name: str, shape: str) -> str:
    value = row.get(name)
    return "" if value is None else format(value, shape)


def _table(rows: Rows) -> list[str]:
    columns = list(rows[0])
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows),
    ]
