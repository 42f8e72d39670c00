"""Takes the pictures of `docs/pages.md`: a real federation of three, its pages, a real browser.

    python -m docs.images.pages [--into FOLDER]

Chromium and chromedriver are needed. With ``--all`` every page at 1280 and 400 wide, light and dark, for who
wants to look at all of them.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from fedapt_client.books.approval import Approvals
from fedapt_secure.process.streams import say
from tests.support import warm
from tests.support.browsers import browser
from tests.support.worlds import COORDINATOR, World, end, new_world

HERE = Path(__file__).parent
NAMES = ("clinic-1", "clinic-2", "clinic-3")


def link(world: World, name: str) -> str:
    """Return a link to a party's page."""
    party = "server" if name == COORDINATOR else "client"
    status, out, errors = end(world.start(*warm.program(), party, "page", "--dir", str(world.party(name))))
    if status:
        raise SystemExit(errors)
    return out.strip()


def take(window: Chrome, path: Path) -> None:
    """Take a picture of a whole page, however long it is."""
    time.sleep(1.5)
    height = window.execute_script("return document.documentElement.scrollHeight")
    window.set_window_size(window.get_window_size()["width"], min(4000, height + 140))
    time.sleep(0.3)
    window.save_screenshot(str(path))
    with Image.open(path) as taken:  # a third of the size, and nothing of it is seen
        taken.convert("RGB").quantize(128).save(path, optimize=True)
    say(str(path))


def agree(world: World) -> None:
    """Let all people agree, on record as their pages would put it."""
    for name in NAMES:
        wanted = json.loads((world.party(name) / "offer.json").read_text())["fields"]["hash"]
        Approvals(world.party(name)).approve(wanted)


def serve(world: World) -> subprocess.Popen[str]:
    """Serve the coordinator's page."""
    options = ("--dir", str(world.party(COORDINATOR)), "--address", "127.0.0.1:0")
    process = world.start(*warm.program(), "server", "page", *options)
    socket = world.party(COORDINATOR) / "page.sock"
    world.until(lambda: socket.exists() or process.poll() is not None, "the coordinator's page")
    return process


def main() -> None:
    """Run the federation and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--into", type=Path, default=HERE)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    into = options.into.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # no path of this machine stands on a page
        with new_world(Path(), rounds=12, clients=3) as world:
            federation(world, into, everything=options.all)


def federation(world: World, into: Path, *, everything: bool) -> None:
    """Take the pictures while a federation goes its way."""
    for name in NAMES:
        budget = {"max_epsilon": 20.0, "session_epsilon": 8.0}
        world.policy(name, unattended=False, minimum_institutions_per_key=1, **budget)
        world.settings(name, page="127.0.0.1:0")
    world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    for name in NAMES:
        world.client(name, "run", "--stay")
        world.until((world.party(name) / "offer.json").exists, f"an offer at {name}")
    serve(world)
    shots = [(1280, False), *[(1280, True), (400, False), (400, True)] * everything]

    def pictures(name: str, pages: dict[str, str]) -> None:
        for width, dark in shots:
            mark = f"-{width}{'-dark' * dark}" if everything else ""
            with browser(width=width, dark=dark) as window:
                window.get(link(world, name))
                time.sleep(1)
                root = window.current_url.rstrip("/")
                for path, title in pages.items():
                    window.get(f"{root}{path}")
                    take(window, into / f"{title}{mark}.png")

    pictures("clinic-1", {"/": "page-offer"})
    agree(world)
    world.until(lambda: world.logged("clinic-1", "session_closed"), "the session's end")
    more = {"/budget": "page-budget", "/policy": "page-policy", "/log": "page-log", "/models": "page-models"}
    pictures("clinic-1", {"/": "page-session", **(more if everything else {})})
    [report] = (world.party("clinic-1") / "models").glob("*.html")
    for width, dark in shots:
        mark = f"-{width}{'-dark' * dark}" if everything else ""
        with browser(width=width, dark=dark) as window:
            window.get(report.absolute().as_uri())
            window.set_window_size(width, 2000)
            take(window, into / f"report-session{mark}.png")
    pictures(COORDINATOR, {"/": "page-coordinator", **({"/members": "page-members"} if everything else {})})


if __name__ == "__main__":
    main()
