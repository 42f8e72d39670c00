"""Settings files: read, validated, refused in one line that names the mistake, and written back."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import Settings, build, read_yaml, write_yaml


class Kitchen(Settings):
    oven_temperature: int = 200
    cooks: tuple[str, ...] = ()
    share: float | None = None
    open_at_night: bool = False
    name: str = "kitchen"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kitchen.yaml"


class TestReadYaml:
    @pytest.mark.parametrize("text", ["", "# a comment\n", "\n\n", "---\n"])
    def test_an_empty_file_sets_nothing(self, file: Path, text: str) -> None:
        file.write_text(text)
        assert read_yaml(file) == {}

    def test_nothing_in_a_file_refers_to_itself(self, file: Path) -> None:
        """Each line of these would double what the file stands for."""
        lines = ["a0: &a0 {x: 1}"]
        lines += [f"a{at}: &a{at} {{<<: [*a{at - 1}, *a{at - 1}]}}" for at in range(1, 40)]
        file.write_text("\n".join(lines))
        with pytest.raises(InvalidInput, match="line 2: an alias"):
            read_yaml(file)

    def test_a_mapping(self, file: Path) -> None:
        file.write_text(
            "# comment\noven_temperature: 180\ncooks: [Ünal, 'no']\nshare: null\n", encoding="utf-8"
        )
        assert read_yaml(file) == {"oven_temperature": 180, "cooks": ["Ünal", "no"], "share": None}

    @pytest.mark.parametrize(
        "text", ["- 1\n- 2\n", "just words\n", "7\n", "1: one\n", "true: yes\n", "false\n", "[]\n"]
    )
    def test_what_is_no_mapping(self, file: Path, text: str) -> None:
        file.write_text(text)
        with pytest.raises(InvalidInput, match=f"^{re.escape(str(file))}: expected 'option: value' lines$"):
            read_yaml(file)

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("a: 1\nb: c: d\n", 2),
            ("a: 1\n\n\tb: 2\n", 3),
            ("a: 'open\n", 2),
            ("a: 1\nb: *nowhere\n", 2),
            ("a: 1\n? [1]\n: 2\n", 2),
            ("a: !!python/object/apply:os.getcwd []\n", 1),
        ],
    )
    def test_broken_yaml_names_the_line(self, file: Path, text: str, line: int) -> None:
        file.write_text(text)
        with pytest.raises(InvalidInput, match=f"^{re.escape(str(file))}, line {line}: .+$") as caught:
            read_yaml(file)
        assert "\n" not in str(caught.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        loop, folder, missing, binary = (tmp_path / name for name in ("loop", "folder", "missing", "binary"))
        loop.symlink_to(loop)
        folder.mkdir()
        binary.write_bytes(b"a: \xff\n")
        reasons = {
            loop: "Too many levels of symbolic links",
            folder: "Is a directory",
            missing: "No such file or directory",
            binary: "not UTF-8 text",
        }
        for path, reason in reasons.items():
            with pytest.raises(InvalidInput, match=f"^cannot read {re.escape(str(path))}: {reason}$"):
                read_yaml(path)


class TestBuild:
    @pytest.mark.parametrize(
        ("key", "near"),
        [
            ("oven_temprature", "oven_temperature"),
            ("cook", "cooks"),
            ("Name", "name"),
            ("open-at-night", "open_at_night"),
        ],
    )
    def test_an_unknown_key_with_the_nearest_known_one(self, key: str, near: str) -> None:
        with pytest.raises(InvalidInput, match=f"^here: unknown option '{key}'; did you mean '{near}'\\?$"):
            build(Kitchen, {key: 1}, source="here")

    def test_an_unknown_key_that_is_like_none(self) -> None:
        known = "oven_temperature, cooks, share, open_at_night, name"
        with pytest.raises(InvalidInput, match=f"^here: unknown option 'zzz'; known: {known}$"):
            build(Kitchen, {"zzz": 1}, source="here")

    def test_a_value_that_does_not_fit(self) -> None:
        with pytest.raises(InvalidInput, match="^here: oven_temperature: Input should be a valid integer"):
            build(Kitchen, {"oven_temperature": "hot"}, source="here")
        with pytest.raises(InvalidInput, match="^here: --oven-temperature: Input should be"):
            build(Kitchen, {"oven_temperature": "hot"}, source="here", as_options=True)
        with pytest.raises(InvalidInput, match=r"^here: cooks\.1: Input should be a valid string"):
            build(Kitchen, {"cooks": ["a", 7]}, source="here")

    def test_a_refused_value_is_not_repeated(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            build(Kitchen, {"oven_temperature": "correct horse battery staple"}, source="here")
        assert "horse" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_the_model_itself_is_as_strict_and_as_silent(self) -> None:
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            Kitchen(zzz=1)
        with pytest.raises(ValueError, match="valid integer") as caught:
            Kitchen(oven_temperature="correct horse battery staple")
        assert "horse" not in str(caught.value)

    def test_what_was_built_stays(self) -> None:
        kitchen = build(Kitchen, {"share": 0.5}, source="here")
        assert kitchen == Kitchen(share=0.5)
        with pytest.raises(ValueError, match="frozen"):
            kitchen.share = 1.0


# YAML 1.1 folds NEL (U+0085) as a line break; no option holds one.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=20)


class TestWriteYaml:
    @settings(deadline=None)
    @given(
        st.builds(
            Kitchen,
            oven_temperature=st.integers(),
            cooks=st.lists(TEXT, max_size=3).map(tuple),
            share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
            open_at_night=st.booleans(),
            name=TEXT
            | st.sampled_from(["no", "null", "~", "1e3", "0x1", "2026-01-01", "a: b", "# c", "*x", " "]),
        )
    )
    def test_reading_gives_back_what_was_written(self, kitchen: Kitchen) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kitchen.yaml"
            write_yaml(file, kitchen, comment="two\nlines")
            assert build(Kitchen, read_yaml(file), source="here") == kitchen

    def test_comment_and_mode(self, file: Path) -> None:
        write_yaml(file, Kitchen(), comment="What we cook.\noven_temperature: 999")
        assert file.read_text().startswith(
            "# What we cook.\n# oven_temperature: 999\noven_temperature: 200\n"
        )
        assert file.stat().st_mode & 0o777 == 0o600
        write_yaml(file, Kitchen(), comment="", mode=0o644)
        assert file.stat().st_mode & 0o777 == 0o644
