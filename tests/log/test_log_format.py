"""What docs/log-format.md says is what the code does: its example verifies, its types are all there are."""

import hashlib
import re
from pathlib import Path

from fedapt_secure.log.line import GENESIS, LogHead, parse_line, read_header, verify_line
from tests.audit.logs import IDENTITY
from tests.integration.log_schema import BOTH, COORDINATOR, INSTITUTION

TEXT = (Path(__file__).parent.parent.parent / "docs" / "log-format.md").read_text()
EXAMPLE = [line.encode() for line in TEXT.splitlines() if line.startswith('{"seq":') and "..." not in line]


def test_the_example_is_a_sound_log() -> None:
    assert len(EXAMPLE) == 2
    prev = GENESIS
    for seq, raw in enumerate(EXAMPLE):
        entry = parse_line(raw, "the example")
        assert (entry.seq, entry.prev) == (seq, prev)
        verify_line(entry, IDENTITY.public_key, signer="clinic-1")
        prev = hashlib.sha256(raw).digest()
    header = read_header(parse_line(EXAMPLE[0], "x"), "x")
    assert f"`{LogHead(header.log, 1, prev)}`" in TEXT


def test_the_table_of_types() -> None:
    rows = re.findall(r"^\| (both|coordinator|institution) \| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE)
    found = {(who, type): " ".join(re.findall(r"`(\??\w+)`", fields)) for who, type, fields in rows}
    expected = {("both", type): fields for type, fields in BOTH.items()}
    for who, schema in (("coordinator", COORDINATOR), ("institution", INSTITUTION)):
        expected |= {(who, type): fields for type, fields in schema.items() if type not in BOTH}
    assert found == expected
