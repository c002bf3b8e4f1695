# SPDX-License-Identifier: GPL-3.0-or-later
"""CouchDB behind TLS, with a CA of one's own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.certificates import make_certificate
from support.couch_servers import NO_DATABASE, delete, write
from support.secrets import write_secrets
from wmagent_lab.couch_standin import Couch, make_server
from wmagent_lab.couch_store import Store


@contextmanager
def behind_tls(certificate: Path) -> Iterator[int]:
    """The port of a stand-in that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    server = make_server(Couch(Store(None, 1)), "u", "couch-word")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_with_a_certificate_of_our_own(tmp_path):
    certificate = make_certificate(tmp_path)
    with behind_tls(certificate) as port:
        secrets = write_secrets(tmp_path / "WMAgent.secrets", NO_DATABASE, port)
        text = secrets.read_text().replace("COUCH_HOST=127.0.0.1", "COUCH_HOST=https://127.0.0.1")
        secrets.write_text(f"{text}COUCH_CA_FILE={certificate}\n")
        client = CouchClient(settings_from_secrets(read_secrets(secrets)), 10)
        client.put("/wmagent_jobdump%2Fjobs")
        write(client, "wmagent_jobdump/jobs", range(5))
        delete(client, "wmagent_jobdump/jobs", range(5))
        assert client.get("/wmagent_jobdump%2Fjobs")["doc_del_count"] == 5
        secrets.write_text(text)
        with pytest.raises(WMAgentError, match="check COUCH_CA_FILE"):
            CouchClient(settings_from_secrets(read_secrets(secrets)), 10).get("/")
