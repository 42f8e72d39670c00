"""A federation of three run from its institutions' pages, in a real browser."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from fedapt_crypto.pki import CertificateAuthority
from fedapt_secure.web import landlock
from tests.support import warm
from tests.support.browsers import browser, needs_browser
from tests.support.digits import run_folder
from tests.support.issuing import issue
from tests.support.worlds import COORDINATOR, HOLD_S, World, end, new_world

pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("starlette", reason="the extra 'page' is not installed")
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

Returned = TypeVar("Returned")
pytestmark = [
    pytest.mark.integration,
    needs_browser,
    pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock"),
]
NAMES = ("clinic-1", "clinic-2", "clinic-3")
HOST = "page.example.org"


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    cache = run_folder(tmp_path_factory, "features")
    with new_world(tmp_path, rounds=3, clients=3, cache=cache) as world:
        for name in NAMES:
            budget = {"max_epsilon": 20.0, "session_epsilon": 8.0}
            world.policy(name, unattended=False, minimum_institutions_per_key=1, **budget)
            world.settings(name, page="127.0.0.1:0")
        yield world


def link(world: World, name: str, *options: str) -> str:
    status, out, errors = end(world.client(name, "page", *options))
    assert status == 0, errors
    return out.strip()


def started(world: World, name: str, *options: str) -> subprocess.Popen[str]:
    """Start an institution, and return once its page shows an offer."""
    process = world.client(name, "run", *options)
    offer = world.party(name) / "offer.json"
    world.until(lambda: offer.exists() or process.poll() is not None, f"an offer at {name}")
    assert process.poll() is None, process.communicate()
    return process


def steady(act: Callable[[], Returned]) -> Returned:
    """Do something on a live page, again where the page was renewed in the middle of it."""
    for _ in range(40):
        try:
            return act()
        except (NoSuchElementException, StaleElementReferenceException):
            time.sleep(0.05)
    raise AssertionError("the page does not hold still")


def text(page: Chrome) -> str:
    return steady(lambda: page.find_element(By.TAG_NAME, "body").text)


def until(page: Chrome, holds: Callable[[str], object]) -> str:
    deadline = time.monotonic() + HOLD_S
    while not holds(found := text(page)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def press(page: Chrome, words: str) -> None:
    steady(lambda: page.find_element(By.XPATH, f"//button[contains(., '{words}')]").click())


def go(page: Chrome, title: str) -> None:
    steady(lambda: page.find_element(By.LINK_TEXT, title).click())


def type_in(page: Chrome, words: str) -> None:
    steady(lambda: page.find_element(By.ID, "typed").send_keys(words))


def agree(page: Chrome) -> None:
    type_in(page, steady(lambda: page.find_element(By.ID, "fingerprint").text))
    press(page, "Agree")
    until(page, lambda found: "Agreed." in found)


def spent(page: Chrome) -> float:
    go(page, "Privacy budget")
    found = re.search(r"ε ([0-9.]+) of 20 is spent", until(page, lambda found: "What the images" in found))
    return float(found[1]) if found else 0.0


def bar(page: Chrome) -> float:
    """Return how much of an offer's budget bar is spent, in [0, 1]."""
    whole, solid = steady(
        lambda: [
            float(one.get_attribute("width") or 0)
            for one in page.find_elements(By.CSS_SELECTOR, ".bar svg rect:not([fill-opacity])")
        ]
    )
    return solid / whole


def under_tls(world: World, name: str) -> Path:
    """Give an institution's page a host name and a certificate; return the certificate."""
    party = issue(
        CertificateAuthority.create("test"), world.party(name) / "page", "page", server_addresses=(HOST,)
    )
    files = {"page_certificate": str(party.certificate_file), "page_key": str(party.private_key_file)}
    world.settings(name, **files, page_names=[HOST], page_allow=["127.0.0.0/8"])
    return party.certificate_file


def test_three_institutions_from_their_pages(world: World) -> None:
    certificate = under_tls(world, "clinic-2")
    world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    for name in NAMES:
        started(world, name, "--stay")
    with ExitStack() as windows:
        window, officer = (windows.enter_context(browser(trusts=certificate)) for _ in range(2))
        entry = link(world, "clinic-1")
        window.get(entry)
        offer = until(window, lambda found: "A session is offered" in found)
        assert all(name in offer for name in NAMES)
        assert "this session at most 8" in window.find_element(By.CSS_SELECTOR, ".bar svg").text
        assert bar(window) == 0
        assert not [one for one in window.get_log("browser") if one["level"] == "SEVERE"]

        # Names that others choose are text, whatever is in them.
        path = world.party("clinic-1") / "offer.json"
        hostile = "<script>document.title = 'ours'</script><img src=x onerror=alert(1)>"
        path.write_text(path.read_text().replace('"zero"', json.dumps(hostile)))
        until(window, lambda found: hostile in found)
        assert window.title == "Now - clinic-1 in simulation"
        assert not window.find_elements(By.CSS_SELECTOR, "main script, main img")

        # Nobody else: not with the link that was used, nor without one.
        address = window.current_url
        for place in (entry, address, f"{address}log"):
            officer.get(place)
            assert "clinic" not in text(officer).replace(address, "")

        # Who reads sees the same, has nothing to press, and is refused where they post all the same.
        officer.get(link(world, "clinic-1", "--read-only"))
        assert "You may read here" in until(officer, lambda found: "A session is offered" in found)
        assert not officer.find_elements(By.CSS_SELECTOR, "form.decide")
        hash_ = json.loads((world.party("clinic-1") / "offer.json").read_text())["fields"]["hash"]
        officer.execute_script(
            """const form = document.querySelector("form");
            form.action = "/do/agree";
            for (const [name, value] of [["hash", arguments[0]], ["typed", arguments[0].slice(0, 16)]]) {
              const field = document.createElement("input"); field.name = name; field.value = value;
              form.append(field);
            }
            form.submit();""",
            hash_,
        )
        until(officer, lambda found: "You may read here, not decide" in found)
        assert not (world.party("clinic-1") / "approvals.json").exists()

        type_in(window, "0000 0000 0000 0000")
        press(window, "Agree")
        until(window, lambda found: "is not the session's fingerprint" in found)
        agree(window)
        for name in NAMES[1:]:
            officer.get(link(world, name))
            assert officer.current_url.startswith(f"https://{HOST}:" if name == "clinic-2" else "http://127")
            agree(officer)

        # Live, without anybody loading the page again.
        go(window, "Now")
        until(window, lambda found: "3 of 3 completed" in found and "as it is now" in found)
        until(window, lambda found: "its record is signed by everybody" in found)
        assert "Accuracy here" in text(window)
        assert spent(window) > 7
        go(window, "Log")
        until(window, lambda found: re.search(r"All \d+ lines verify", found))

        # Another session, declined: the coordinator hears a code, the others nothing of why.
        for name in NAMES:
            (world.party(name) / "offer.json").unlink()
        world.processes[0].wait(HOLD_S)
        world.start(*warm.program(), "server", "run", "--dir", str(world.party(COORDINATOR)), "--new-session")
        go(window, "Now")
        until(window, lambda found: "A session is offered" in found)
        assert 0.39 < bar(window) < 0.41, "8 of 20 are spent"
        choice = "#reason option[value=policy_epsilon]"
        steady(lambda: window.find_element(By.CSS_SELECTOR, choice).click())
        press(window, "Decline")
        until(window, lambda found: "The coordinator is told policy_epsilon, and nothing else." in found)
        world.until(
            lambda: world.logged(COORDINATOR, "left", name="clinic-1", reason="policy_epsilon"), "the code"
        )
        assert spent(window) > 7


def test_narrow_dark_and_without_scripts(world: World) -> None:
    world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    started(world, "clinic-1")
    with browser(width=400, scripts=False, dark=True) as window:
        window.get(link(world, "clinic-1"))
        until(window, lambda found: "Go on" in found or "A session is offered" in found)
        for going_on in window.find_elements(By.LINK_TEXT, "Go on"):
            going_on.click()
        until(window, lambda found: "A session is offered" in found)
        assert "as it was when the page was loaded" in text(window)
        agree(window)
        world.until(lambda: world.logged("clinic-1", "session_accepted"), "clinic-1 takes part")
        for page in ("Privacy budget", "Policy", "Log", "Models", "Now"):
            go(window, page)
            until(window, lambda found: "You may read here" not in found)
            inner = window.find_element(By.TAG_NAME, "main").size["width"]
            assert inner <= window.get_window_size()["width"], "nothing sticks out"
