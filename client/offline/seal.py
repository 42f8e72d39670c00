"""Seal a folder of wheels and weights for a machine without a network, and check it there.

``python seal.py FOLDER`` writes FOLDER/requirements.lock (each wheel with its hash, for ``pip install
--require-hashes``) and FOLDER/SHA256SUMS (every file, in the form of ``sha256sum``), and prints the hash of
SHA256SUMS: one line that stands for the whole folder, to be compared by another way than the folder takes.
``python seal.py --check FOLDER`` says whether the folder is still the same. Needs nothing but Python.
"""

import argparse
import hashlib
import sys
from pathlib import Path

SUMS = "SHA256SUMS"
LOCK = "requirements.lock"
WHEELS = "wheels"


class UnfitError(Exception):
    """The folder is not what it should be; the message says what to do."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; files may be larger than memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def contents(folder: Path) -> list[Path]:
    """Return every file of the folder but the sums, sorted; raises `UnfitError` for a link."""
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in found:
        if path.is_symlink() or not path.is_file() or "\n" in path.name or "\\" in path.name:
            raise UnfitError(f"{path} is not a plain file: copy the file itself into the folder")
    return [path for path in found if path != folder / SUMS]


def lock(folder: Path) -> str:
    """Return the requirements that install exactly these wheels.

    Raises:
        UnfitError: If there are none, or something else lies among them.
    """
    wheels = sorted((folder / WHEELS).glob("*"))
    if not wheels:
        raise UnfitError(f"there are no wheels in {folder / WHEELS}: gather them with 'pip wheel' first")
    lines: dict[str, str] = {}
    for path in wheels:
        parts = path.name.removesuffix(".whl").split("-")
        if path.suffix != ".whl" or len(parts) not in (5, 6):
            raise UnfitError(
                f"{path} is not a wheel: gather with 'pip wheel', which builds one where none is"
            )
        name, version = parts[0], parts[1]
        if name in lines:
            raise UnfitError(f"{name} lies in {folder / WHEELS} in two versions: begin with an empty folder")
        lines[name] = f"{name}=={version} --hash=sha256:{sha256(path)}\n"
    return "".join(lines.values())


def seal(folder: Path) -> str:
    """Write lock and sums; return the hash of the sums."""
    (folder / LOCK).write_text(lock(folder))
    sums = "".join(f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in contents(folder))
    (folder / SUMS).write_text(sums)
    return sha256(folder / SUMS)


def check(folder: Path) -> str:
    """Return the hash of the sums if the folder holds exactly what they list; raises `UnfitError`."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UnfitError(f"{folder / SUMS} cannot be read: copy the whole folder again") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {path.relative_to(folder).as_posix(): path for path in contents(folder)}
    for name in sorted(listed.keys() | there.keys()):
        if name not in there:
            raise UnfitError(f"{name} is missing: copy the whole folder again")
        if name not in listed:
            raise UnfitError(f"{name} was not there when the folder was sealed: do not install from it")
        if sha256(there[name]) != listed[name]:
            raise UnfitError(f"{name} is not the file that was sealed: do not install from it")
    return sha256(folder / SUMS)


def main() -> int:
    """Seal or check a folder; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="with wheels/, and weights/ where a model needs them")
    parser.add_argument("--check", action="store_true", help="check a folder that was sealed")
    options = parser.parse_args()
    try:
        total = check(options.folder) if options.check else seal(options.folder)
        count = len(contents(options.folder))
    except UnfitError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        return 2
    sys.stdout.write(
        f"{count} files {'as sealed' if options.check else 'sealed'}; {SUMS} has the hash\n{total}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
