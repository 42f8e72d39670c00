"""What a page costs that somebody has open and nothing happens on: processor time of both of its processes.

    python -m benchmarks.protocol.idle_page FOLDER [--seconds 60] [--pages 3]

FOLDER is an institution's. Beside it in the same run: the same pages without anybody who looks.
"""

import argparse
import http.client
import json
import time
from pathlib import Path
from threading import Thread

from fedapt_client.page.desk import InstitutionDesk
from fedapt_secure.process.streams import say
from fedapt_secure.web.access import Role
from fedapt_secure.web.address import PageAddress
from fedapt_secure.web.serving import PageServer


def processor_s(process: str) -> float:
    """Return how long a process has had a processor, in seconds.

    Args:
        process: Its number, or ``self``.
    """
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def watch(server: PageServer) -> None:
    """Hold one live page open, as a browser does."""
    link = server.link(Role.READS)
    host = f"127.0.0.1:{server.port}"
    entering = http.client.HTTPConnection(host)
    entering.request("GET", link.partition(host)[2])
    cookie = str(entering.getresponse().getheader("set-cookie")).partition(";")[0]
    live = http.client.HTTPConnection(host)
    live.request("GET", "/events?page=/", headers={"Cookie": cookie})
    stream = live.getresponse()
    Thread(target=lambda: [None for _ in stream], daemon=True).start()


def measure(folder: Path, seconds: float, pages: int) -> dict[str, float]:
    """Return the share of one core that each process takes."""
    server = PageServer(
        "fedapt_client.page", InstitutionDesk(folder), PageAddress.parse("127.0.0.1:0"), folder
    )
    try:
        for _ in range(pages):
            watch(server)
        time.sleep(3)
        ours, theirs = processor_s("self"), processor_s(str(server.process_id))
        time.sleep(seconds)
        return {
            "pages": pages,
            "reads_folder_percent": round(100 * (processor_s("self") - ours) / seconds, 2),
            "faces_browsers_percent": round(
                100 * (processor_s(str(server.process_id)) - theirs) / seconds, 2
            ),
        }
    finally:
        server.stop()


def main() -> None:
    """Measure with nobody, and with some who look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pages", type=int, default=3)
    options = parser.parse_args()
    for pages in (0, 1, options.pages):
        say(json.dumps(measure(options.folder, options.seconds, pages)))


if __name__ == "__main__":
    main()
