# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a real OCI registry, and real skopeo on what we write."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository, open_repository
from support.registry import PASSWORD, USER, Registry, registry
from support.wheels import make_image, make_repository, make_wheel


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is not logged in anywhere."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"WMAGENT_REGISTRY_{name}", raising=False)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Image 2.4.4 in the folder ``images``."""
    wheels = [make_wheel(tmp_path / "wheels", name, "1", {f"{name}.py": b"x" * 9999}) for name in ("one", "two")]
    return make_repository(tmp_path / "images", "2.4.4", wheels)


def push(tmp_path: Path, repository: Repository) -> Image:
    """Put the same image into ``repository``."""
    wheels = [make_wheel(tmp_path / "wheels", name, "1", {f"{name}.py": b"x" * 9999}) for name in ("one", "two")]
    _image, manifest, config = make_image("2.4.4", wheels)
    repository.put("2.4.4", manifest, config, {wheel.digest: path for wheel, path in wheels})
    return repository.image("2.4.4")


def test_an_image_is_the_same_in_folder_and_registry(tmp_path: Path, image: Image) -> None:
    with registry(tmp_path / "registry") as server:
        repository = open_repository(server.url(), timeout=20)
        assert repository.names() == []
        assert repository.find("2.4.4") is None
        assert push(tmp_path, repository) == image
        assert repository.names() == ["2.4.4"]
        repository.verify(image)
        wheel = image.description.wheels[0]
        assert repository.read_blob(wheel.digest) == (tmp_path / "wheels" / wheel.filename).read_bytes()
        repository.put_signature(image, b"one")
        repository.put_signature(image, b"two")
        assert repository.signature(image) == [b"one", b"two"]
        assert repository.names() == ["2.4.4"]
        with pytest.raises(WMAgentError, match=r"no image 9\.9 .* it has 2\.4\.4"):
            repository.image("9.9")
        with pytest.raises(WMAgentError, match=r"is missing in"):
            repository.read_blob("sha256:" + "0" * 64)


def test_what_the_registry_lost_or_changed_is_found(tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as server:
        repository = open_repository(server.url(), timeout=20)
        image = push(tmp_path, repository)
        wheel = image.description.wheels[0]
        file = server.blob(wheel.digest)
        right = file.read_bytes()
        file.write_bytes(right[:-1] + b"?")
        with pytest.raises(WMAgentError, match="is not what its digest says"):
            repository.verify(image)
        file.write_bytes(right[:-10])
        with pytest.raises(WMAgentError, match="missing or truncated"):
            repository.verify(image, content=False)
        file.write_bytes(right)
        repository.verify(image)
        server.blob(image.manifest["config"]["digest"]).write_bytes(b"{}")
        with pytest.raises(WMAgentError, match=r"copy the image again|answers HTTP"):
            repository.image("2.4.4")


def skopeo(*arguments: str) -> str:
    """Run skopeo."""
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed; apt install skopeo")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_reads_and_copies_it_without_a_change(tmp_path: Path, image: Image) -> None:
    told = json.loads(skopeo("inspect", f"oci:{tmp_path / 'images'}:2.4.4"))
    assert told["Digest"] == image.digest
    assert told["Layers"] == [wheel.digest for wheel in image.description.wheels]
    with registry(tmp_path / "registry") as server:
        there = f"docker://127.0.0.1:{server.port}/cms/copy:2.4.4"
        skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'images'}:2.4.4", there)
        copied = open_repository(server.url("cms/copy"), timeout=20)
        assert copied.image("2.4.4") == image
        copied.verify(image)
        skopeo("copy", "--src-tls-verify=false", there, f"oci:{tmp_path / 'back'}:2.4.4")
    back = open_repository(str(tmp_path / "back"))
    assert back.image("2.4.4") == image
    back.verify(image)


def test_accounts_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry(tmp_path / "registry", accounts=True, tls=True) as server:
        with pytest.raises(WMAgentError, match=r"cannot be trusted .* give its CA file"):
            open_repository(server.url(), timeout=20).names()
        with pytest.raises(WMAgentError, match=r"refuses to let us read .*WMAGENT_REGISTRY_USER"):
            trusted(server).names()
        monkeypatch.setenv("WMAGENT_REGISTRY_USER", USER)
        monkeypatch.setenv("WMAGENT_REGISTRY_PASSWORD", "wr0ng-s3cret")
        with pytest.raises(WMAgentError, match="check them") as caught:
            trusted(server).image("2.4.4")
        assert "wr0ng" not in str(caught.value)
        monkeypatch.setenv("WMAGENT_REGISTRY_PASSWORD", PASSWORD)
        repository = trusted(server)
        repository.verify(push(tmp_path, repository))
        assert PASSWORD not in repository.location


def trusted(server: Registry) -> Repository:
    """Open it with its own certificate."""
    return open_repository(server.url(), timeout=20, ca_file=str(server.ca_file))


def test_missing_ca_file(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="does not exist; give its right path"):
        open_repository("https://127.0.0.1:1/a", ca_file=str(tmp_path / "none"))


@pytest.mark.parametrize(
    "location", ["http://user:s3cret@127.0.0.1:1/a", "http://127.0.0.1:1", "http://127.0.0.1:1/A", "http:///a"]
)
def test_unusable_urls(location: str) -> None:
    with pytest.raises(WMAgentError) as caught:
        open_repository(location)
    assert "s3cret" not in str(caught.value)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Plays a registry that hands out tokens, or one that cuts its answers short."""

    behaviour: ClassVar[str] = ""
    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path.partition("?")[0], self.headers.get("Authorization", "")))
        here = f"http://127.0.0.1:{self.connection.getsockname()[1]}"
        if self.behaviour == "token" and self.path.startswith("/token"):
            self._answer(200, {"token": "t0ken"})
        elif self.behaviour == "token" and self.headers.get("Authorization") != "Bearer t0ken":
            self._answer(401, {}, {"WWW-Authenticate": f'Bearer realm="{here}/token",service="x",scope="y"'})
        elif self.behaviour == "token":
            self._answer(200, {"name": "a", "tags": ["2.4.4"]})
        elif self.behaviour == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        elif self.behaviour == "slow":
            threading.Event().wait(5)
        else:
            self._answer(500, {})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        """Quiet."""


@contextmanager
def playing(behaviour: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that behaves so; its URL and the requests that it saw."""
    handler = type("Handler", (_Handler,), {"behaviour": behaviour, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/a", handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WMAGENT_REGISTRY_USER", USER)
    monkeypatch.setenv("WMAGENT_REGISTRY_PASSWORD", PASSWORD)
    with playing("token") as (url, seen):
        repository = open_repository(url, timeout=5)
        assert repository.names() == ["2.4.4"]
        assert repository.names() == ["2.4.4"]
    assert [path for path, _ in seen] == ["/v2/a/tags/list", "/token", "/v2/a/tags/list", "/v2/a/tags/list"]
    assert seen[1][1].startswith("Basic ")
    assert seen[3][1] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [("cut", "cannot be reached"), ("slow", "did not answer within 1 s"), ("broken", "answers HTTP 500 to GET")],
)
def test_a_registry_in_trouble_is_one_line(behaviour: str, told: str) -> None:
    with playing(behaviour) as (url, _seen):
        repository = open_repository(url, timeout=1)
        for attempt in (
            lambda: repository.image("2.4.4"),
            lambda: repository.read_blob("sha256:" + "0" * 64),
        ):
            with pytest.raises(WMAgentError, match=told) as caught:
                attempt()
            assert "\n" not in str(caught.value)


def test_no_registry() -> None:
    with pytest.raises(WMAgentError, match=r"cannot be reached .*Connection refused"):
        open_repository("http://127.0.0.1:1/a", timeout=2).names()
