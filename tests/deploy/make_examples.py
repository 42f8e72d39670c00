"""Write the annotated example files of the deployment kit, from the code that writes the real ones.

``python -m tests.deploy.make_examples`` after a change of a template; a test notices when it was forgotten.
"""

import tempfile
from pathlib import Path

from fedapt_client.membership.templates import CLIENT
from fedapt_secure.config.annotated import fill
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_server.membership.founding import write_settings
from fedapt_server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
FEDERATION = ServerSettings(federation="retina", addresses=("coordinator.example.org",), host="0.0.0.0")
INSTITUTION = {
    "name": "clinic-1",
    "host": "coordinator.example.org",
    "port": 8443,
    "enrolment_port": 8444,
    "proxy": None,
    "data": "/srv/images",
    "device": "auto",
}


def examples() -> dict[Path, str]:
    """Return the path of each example, and what the code would write today."""
    with tempfile.TemporaryDirectory() as name:
        folder = PartyFolder(Path(name))
        write_settings(folder, FEDERATION)
        server, session = ((folder.path / file).read_text() for file in ("server.yaml", "session.yaml"))
    return {
        ROOT / "server" / "server.example.yaml": server,
        ROOT / "server" / "session.example.yaml": session,
        ROOT / "client" / "client.example.yaml": fill(CLIENT, INSTITUTION),
    }


if __name__ == "__main__":
    for path, text in examples().items():
        path.write_text(text)
