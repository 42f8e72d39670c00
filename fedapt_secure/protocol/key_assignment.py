"""Who holds which of FedAPT's K keys: a rule that all parties compute from roster and plan.

The paper has one key a domain. The number can be another one, to learn what the keys are worth: with fewer,
domains share keys; with more, institutions of one domain have keys of their own, up to one each.
"""

from collections import Counter
from collections.abc import Sequence

from fedapt_crypto.errors import InvalidInput


def assign_keys(member_domains: Sequence[int], domains: int, keys: int) -> tuple[int, ...]:
    """Return the key of each institution.

    With at most one key a domain, domain d holds key d mod K, so that K domains hold one each. With more, the
    first institution of each domain gets a key of its own, then the second of each, until there are none
    left; whoever comes after that takes the keys of its domain in turn.

    Args:
        member_domains: Domain index of each institution, in roster order; each below ``domains``.
        domains: Number of domains.
        keys: K.

    Returns:
        Key index of each institution, in roster order.

    Raises:
        InvalidInput: If there are more keys than both domains and institutions: some would have no holder.
    """
    if keys <= domains:
        return tuple(domain % keys for domain in member_domains)
    if keys > len(member_domains):
        raise InvalidInput(
            f"{keys} keys for {len(member_domains)} institutions leave some without a holder: ask for"
            f" {max(domains, len(member_domains))} at the most"
        )
    seen: Counter[int] = Counter()
    ranks = []
    for domain in member_domains:
        ranks.append(seen[domain])
        seen[domain] += 1
    held: dict[int, list[int]] = {}
    found: dict[int, int] = {}
    in_turn = sorted(range(len(ranks)), key=lambda place: (ranks[place], member_domains[place]))
    for number, place in enumerate(in_turn):
        own = held.setdefault(member_domains[place], [])
        if number < keys:
            own.append(number)
        found[place] = own[ranks[place] % len(own)]
    return tuple(found[place] for place in range(len(ranks)))


def domains_of_keys(member_domains: Sequence[int], domains: int, keys: int) -> tuple[tuple[int, ...], ...]:
    """Return the domains, ascending, whose institutions hold each of the K keys.

    Args:
        member_domains: Domain index of each institution, in roster order; each below ``domains``.
        domains: Number of domains.
        keys: K.

    Raises:
        InvalidInput: As `assign_keys`.
    """
    if keys <= domains:
        return tuple(tuple(range(key, domains, keys)) for key in range(keys))
    assigned = assign_keys(member_domains, domains, keys)
    found: list[set[int]] = [set() for _ in range(keys)]
    for domain, key in zip(member_domains, assigned, strict=True):
        found[key].add(domain)
    return tuple(tuple(sorted(one)) for one in found)


def key_names(domain_names: Sequence[str], key_domains: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Return what tables and predictions call each key: after its domains, numbered where one has several.

    Args:
        domain_names: Names of the domains.
        key_domains: The domains of each key.
    """
    names = [_joined(domain_names, one) for one in key_domains]
    return tuple(
        name if names.count(name) == 1 else f"{name} {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    )


def _joined(domain_names: Sequence[str], domains: Sequence[int]) -> str:
    if len(domains) == len(domain_names) > 1:
        return "all domains"
    return " + ".join(domain_names[one] for one in domains)
