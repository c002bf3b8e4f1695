# SPDX-License-Identifier: GPL-3.0-or-later
"""A staging in a process of its own that kills itself at its n-th touch of the file system.

Arguments: agent root, folder of wheels, image name, n (0: never). Prints how often it touched the file system.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests")]

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import install_release, staging  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe  # noqa: E402
from support.wheels import PYTHON, describe_wheel, make_image  # noqa: E402

TOUCHES = frozenset(
    (
        "open",
        "os.rename",
        "os.mkdir",
        "os.link",
        "os.symlink",
        "os.remove",
        "os.rmdir",
        "os.chmod",
        "os.fork",
        "subprocess.Popen",
        "os.utime",
    )
)


def main() -> None:
    """Stage and install."""
    root, folder, name, fatal = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    wheels = [(describe_wheel(path), path) for path in sorted(folder.glob("*.whl"))]
    image, _manifest, _config = make_image(name, wheels)
    layout = AgentLayout(root)
    target = os.getpid()
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in TOUCHES and (event != "open" or str(root) in str(arguments[0])):
            count += 1
            if count == fatal:
                os.kill(target, signal.SIGKILL)

    python = probe(PYTHON)
    sys.addaudithook(watch)
    with staging(layout, f"{name}-{image.digest[7:19]}"):
        store = BlobStore(layout.blobs)
        for wheel, path in wheels:
            if store.missing([wheel]):
                with path.open("rb") as stream:
                    store.add(wheel.digest, stream, wheel.size)
        install_release(layout, image, python, lambda _here, final, _python: f"prefix = {str(final)!r}\n")
    print(count)


if __name__ == "__main__":
    main()
