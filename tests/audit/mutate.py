"""Random damage to the logs of a federation: none of it may end in VERIFIED, unless it changes nothing.

``python -m tests.audit.mutate --count 10000`` runs it at length and reports how each kind of damage ended;
the ordinary tests run a few hundred. A seed and a number repeat any single case.

Two kinds of change may end in VERIFIED, and both are counted apart: those that leave every byte as it was,
and those that touch only lines after a log's last witnessed head, about which the verdict claims nothing.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_secure.audit.evidence.files import gather
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import judge
from fedapt_secure.log.line import GENESIS, line_bytes, parse_line
from tests.audit.harness import Federation, federation

Logs = dict[str, list[bytes]]
UNREADABLE, UNCHANGED, BEYOND = "cannot be read", "changes nothing", "VERIFIED, after the last head"


@dataclass(frozen=True)
class World:
    """Good logs, and who can sign for whom."""

    logs: Logs
    old: Logs
    identities: dict[str, Identity]
    last_seen: dict[str, int]


def make_world(folder: Path) -> World:
    """Make the logs of three institutions in two sessions, and the same after the first only."""
    made: Federation = federation(3, sessions=2, rounds=2, rotate=False)
    old: Federation = federation(3, sessions=1, rounds=2, rotate=False)
    made.save(folder)
    seen = {
        party.party: (party.logs[0].seen.seq if party.logs[0].seen else -1)
        for party in judge(gather([folder], folder / "roster.json")).parties
    }
    return World(
        {name: list(log.segments[0]) for name, log in made.logs.items()},
        {name: list(log.segments[0]) for name, log in old.logs.items()},
        made.identities,
        seen,
    )


def resigned(lines: list[bytes], identity: Identity, edit: Callable[[list[Any]], None]) -> list[bytes]:
    """Return a log edited, chained and signed anew."""
    entries = [parse_line(line, "") for line in lines]
    bodies = [[entry.type, json.loads(json.dumps(entry.body)), entry.time] for entry in entries]
    edit(bodies)
    bodies.sort(key=lambda one: one[2])
    made: list[bytes] = []
    prev = GENESIS
    for seq, (type, body, time) in enumerate(bodies):
        made.append(line_bytes(seq, time, type, body, prev, identity))
        prev = sha256(made[-1]).digest()
    return made


def _flip(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    data = bytearray(b"".join(line + b"\n" for line in logs[name]))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _byte(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    data = bytearray(b"".join(line + b"\n" for line in logs[name]))
    position = rng.randrange(len(data))
    if rng.random() < 0.5:
        data[position] = rng.randrange(256)
    elif rng.random() < 0.5:
        del data[position]
    else:
        data.insert(position, rng.choice(b' \n\t0"{},\\'))
    return bytes(data)


def _truncate(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    data = b"".join(line + b"\n" for line in logs[name])
    return data[: rng.randrange(len(data))]


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _delete(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    start = rng.randrange(len(logs[name]))
    return _joined(logs[name][:start] + logs[name][start + rng.randint(1, 3) :])


def _reorder(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    lines = list(logs[name])
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return _joined(lines)


def _insert(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    source = rng.choice([*logs.values(), *world.old.values()])
    position = rng.randrange(len(logs[name]) + 1)
    return _joined([*logs[name][:position], rng.choice(source), *logs[name][position:]])


def _cut(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    return _joined(logs[name][: rng.randrange(1, len(logs[name]))])


def _swap(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    other = rng.choice(sorted(logs.keys() - {name}))
    logs[name], logs[other] = logs[other], logs[name]
    return _joined(logs[name])


def _other_key(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    key = rng.choice([Identity.generate(), *(world.identities[n] for n in sorted(logs.keys() - {name}))])

    def rename(bodies: list[Any]) -> None:
        if rng.random() < 0.5:
            bodies[0][1]["identity"] = key.public_key.hex()

    return _joined(resigned(logs[name], key, rename))


def _replay(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    return _joined(world.old[name])


def _forge(rng: random.Random, world: World, logs: Logs, name: str) -> bytes:
    """The party's own key: change, drop or repeat lines, and sign and chain all of them again."""

    def edit(bodies: list[Any]) -> None:
        for _ in range(rng.randint(1, 3)):
            index = rng.randrange(1, len(bodies))
            match rng.randrange(4):
                case 0:
                    del bodies[index]
                case 1:
                    bodies.insert(index, json_copy(bodies[rng.randrange(1, len(bodies))]))
                case _:
                    _change(rng, bodies[index][1])
        if rng.random() < 0.3:
            bodies[:] = [one for one in bodies if one[0] != "witnessed"]

    return _joined(resigned(logs[name], world.identities[name], edit))


def json_copy(entry: list[Any]) -> list[Any]:
    return [entry[0], json.loads(json.dumps(entry[1])), entry[2]]


def _change(rng: random.Random, body: dict[str, Any]) -> None:
    """Change one value somewhere in a body."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(body)
    if not places:
        body["x"] = 1
        return
    holder, key = rng.choice(places)
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = rng.choice([value + 1, 0, -1, value * 0.5, value * 2, 1e300])
    elif isinstance(value, str) and value:
        position = rng.randrange(len(value))
        holder[key] = value[:position] + rng.choice("0123456789abcdefx") + value[position + 1 :]
    else:
        holder[key] = [] if value else None


MUTATIONS = {
    "flip a bit": _flip,
    "change, drop or add a byte": _byte,
    "truncate anywhere": _truncate,
    "delete lines": _delete,
    "reorder lines": _reorder,
    "insert a line of some log": _insert,
    "cut the tail": _cut,
    "swap two logs": _swap,
    "sign with another key": _other_key,
    "play an old log again": _replay,
    "forge with the own key": _forge,
}


def run_one(world: World, folder: Path, seed: int) -> tuple[str, str]:
    """Damage the logs once; return the kind of damage and how the audit ended."""
    rng = random.Random(seed)
    kind = rng.choice(sorted(MUTATIONS))
    name = rng.choice(sorted(world.logs))
    logs = {party: list(lines) for party, lines in world.logs.items()}
    data = MUTATIONS[kind](rng, world, logs, name)
    changed = False
    for party, lines in logs.items():
        content = data if party == name else _joined(lines)
        (folder / "logs" / f"{party}.jsonl").write_bytes(content)
        changed |= content != _joined(world.logs[party])
    try:
        verdict = judge(gather([folder], folder / "roster.json"), threads=1).verdict
    except InvalidInput:
        return kind, UNREADABLE
    if verdict is not Verdict.VERIFIED:
        return kind, verdict.value
    if not changed:
        return kind, UNCHANGED
    return kind, BEYOND if _only_after_the_last_head(world, folder) else f"MISSED, seed {seed}"


def _only_after_the_last_head(world: World, folder: Path) -> bool:
    """Tell whether every log is what it was up to its last witnessed head."""
    for party, lines in world.logs.items():
        kept = _joined(lines[: world.last_seen[party] + 1])
        if not (folder / "logs" / f"{party}.jsonl").read_bytes().startswith(kept):
            return False
    return True


def run_many(first_seed: int, count: int) -> Counter[tuple[str, str]]:
    """Run some mutations and count (kind, outcome)."""
    outcomes: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = make_world(folder)
        for seed in range(first_seed, first_seed + count):
            outcomes[run_one(world, folder, seed)] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    part = -(-options.count // options.processes)
    starts = [options.seed + part * i for i in range(options.processes)]
    outcomes: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for found in pool.map(run_many, starts, [part] * options.processes):
            outcomes += found
    print(f"{outcomes.total()} mutations")
    for kind in sorted(MUTATIONS):
        parts = {outcome: n for (one, outcome), n in sorted(outcomes.items()) if one == kind}
        print(f"  {kind:<28} {sum(parts.values()):>6}: {', '.join(f'{o} {n}' for o, n in parts.items())}")
    missed = sum(n for (_, outcome), n in outcomes.items() if outcome.startswith("MISSED"))
    print(f"  missed: {missed}")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
