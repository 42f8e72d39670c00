"""Pages can be read: the stylesheet's colours against each other, light and dark, by WCAG 2.1 (1.4.3, AA)."""

import re
from pathlib import Path

import pytest

import fedapt_secure.pages

STYLE = (Path(fedapt_secure.pages.__file__).parent / "style.css").read_text()
PAIRS = [
    ("ink", "paper"),
    ("ink", "panel"),
    ("soft", "paper"),
    ("soft", "panel"),
    ("line", "paper"),
    ("paper", "line"),
    ("good", "good-paper"),
    ("open", "open-paper"),
    ("bad", "bad-paper"),
    ("bad", "paper"),
    ("worst", "worst-paper"),
    ("ink", "good-paper"),
    ("ink", "bad-paper"),
    ("in", "in-paper"),
    ("in", "part-paper"),
    ("bad", "out-paper"),
]


def colours() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    found = {name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", text)) for name, text in
             (("light", light), ("dark", dark))}  # fmt: skip
    found["dark"] = found["light"] | found["dark"]
    return found


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme: str) -> None:
    palette = colours()[theme]
    for front, back in PAIRS:
        lighter, darker = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)


def test_every_field_has_a_label_and_every_section_a_heading() -> None:
    root = Path(__file__).parents[2]
    for folder in ("client/fedapt_client/page", "server/fedapt_server/page"):
        for path in (root / folder).glob("*.j2"):
            text = path.read_text()
            for one in re.findall(
                r'<(?:input type="text"|input class="fingerprint" type="text"|select)[^>]*id="(\w+)"', text
            ):
                assert f'<label for="{one}">' in text, (path.name, one)
            for one in re.findall(r'aria-labelledby="([a-z]+)"', text):
                assert f'id="{one}"' in text, (path.name, one)
            assert "<input" not in re.sub(r"<input[^>]*(?:hidden|id=)[^>]*>", "", text), path.name
