"""The pages that people follow, followed: every command ends as shown, and prints what is shown."""

from pathlib import Path

import pytest

from tests.deploy.walkthrough import agree, follow, rewritten, steps

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_walk_through_of_three_institutions(tmp_path: Path) -> None:
    page = DOCS / "deploy.md"
    # Whatever the shell would let others read: what the program makes is for its owner only.
    done = follow(page, tmp_path, prelude="umask 000")
    assert len(done) > 20
    wrong = [
        (step.line + 1, step.command, step.printed) for step in done if not agree(step.shown, step.printed)
    ]
    assert not wrong, "python -m tests.deploy.walkthrough docs/deploy.md --write, and look at the difference"
    for name in ("coordinator", "clinic-1"):
        made = list((tmp_path / name).rglob("*"))
        assert {"log.jsonl"} <= {path.name for path in made}
        assert not [path for path in made if path.stat().st_mode & 0o077 and path.name != "policy.yaml"]
    for path in tmp_path.glob("*.join"):
        assert not path.stat().st_mode & 0o077


def page(tmp_path: Path, *blocks: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text("# A page\n" + "".join(f"Text.\n```console\n{block}\n```\n" for block in blocks))
    return path


def test_commands_and_what_they_print_are_told_apart(tmp_path: Path) -> None:
    path = page(tmp_path, "$ echo a \\\n    b\na b\n$ true", "$ false\nfailed: always")
    assert [(s.command, s.shown, s.expected_status) for s in steps(path)] == [
        ("echo a \\\n    b", ["a b"], 0),
        ("true", [], 0),
        ("false", ["failed: always"], 1),
    ]
    path.write_text(path.read_text().replace("```console", "```console pending"))
    assert steps(path) == []


def test_a_command_that_ends_otherwise_than_shown_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:4: false"):
        follow(page(tmp_path, "$ false"), tmp_path)


def test_one_shell_for_the_whole_page(tmp_path: Path) -> None:
    done = follow(page(tmp_path, "$ X=1", "$ sleep 60 &\n$ kill %1; wait; echo $X on port 8443\n1"), tmp_path)
    assert done[-1].printed[-1] == "1 on port 8443"


def test_pages_are_compared_by_form_and_put_right(tmp_path: Path) -> None:
    one, other = (
        "b549 5e76 32d4 acb5 0a06 53d3 505f 9c6a 1a5e 783b",
        "37e5 9b39 eb63 4158 911d 8d74 7b12 3855 69b0 af36",
    )
    assert agree([f"own {one} until 2026-11-30 20:23 UTC"], [f"own {other} until 2027-02-21 07:00 UTC"])
    assert agree(["a", "...", "z"], ["a", "b", "c", "z"])
    assert not agree(["a", "..."], ["b"])
    assert not agree([], ["something"])
    path = page(tmp_path, f"$ echo {one}\n{other}\n$ echo new\nold\nolder\n$ echo long\n...")
    done = follow(path, tmp_path)
    right = page(tmp_path, f"$ echo {one}\n{one}\n$ echo new\nnew\n$ echo long\n...").read_text()
    path = page(tmp_path, f"$ echo {one}\n{other}\n$ echo new\nold\nolder\n$ echo long\n...")
    assert rewritten(path, done) == right
