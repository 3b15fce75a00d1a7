"""One real Kubernetes node on a Debian machine, as root: etcd, containerd, kubelet and the others
in mount, network and PID namespaces of their own.

    with node(folder) as cluster:
        cluster.kubectl("get", "nodes")

Nothing of it is reached from outside, nor reaches outside: it has a network of its own.
`prepared.py` gets what it runs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

START_S: Final = 120.0
END_S: Final = 20.0
_CGROUPS: Final = Path("/sys/fs/cgroup")
_STATE: Final = ("etcd-e2e", "containerd", "containers", "kubelet", "cni", "e2e-volumes")
"""What a node leaves in the /var/lib of its root."""
_ENTER: Final = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mkdir -p e2e old
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind "$WORK" e2e
pivot_root . old
umount -l /old
mount --make-rshared /
exec python3 /e2e/inside.py /e2e
"""


class Cluster:
    """A node that runs.

    Args:
        work: the folder that both sides see; inside it is /e2e.
        process: of the namespaces.
    """

    def __init__(self, work: Path, process: subprocess.Popen[bytes]) -> None:
        self.work = work
        self._process = process

    def run(self, *command: str, timeout: float = 120, check: bool = True, text: str | None = None) -> str:
        """Run a command inside; what it prints.

        Raises:
            RuntimeError: it fails, with what it said.
        """
        done = self.ask(*command, timeout=timeout, text=text)
        if check and done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} ended with "
                f"{done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done.stdout

    def ask(
        self, *command: str, timeout: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever comes of it."""
        return subprocess.run(
            [*self._enter(), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            input=text,
            env=self._environment(),
        )

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        """Run a command inside, beside us."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*self._enter(), *command], stdout=pipe, stderr=pipe, text=True, env=self._environment()
        )

    def kubectl(
        self, *arguments: str, timeout: float = 120, check: bool = True, text: str | None = None
    ) -> str:
        """`kubectl`."""
        return self.run("/e2e/bin/kubectl", *arguments, timeout=timeout, check=check, text=text)

    def helm(self, *arguments: str, timeout: float = 400, check: bool = True) -> str:
        """`helm`."""
        return self.run("/e2e/bin/helm", *arguments, timeout=timeout, check=check)

    def get(self, *what: str) -> Any:
        """Of `kubectl get -o json`."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def apply(self, manifest: str) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "-f", "-", text=manifest)

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._inside()), "-m", "-n", "-p"]

    def _inside(self) -> int:
        """The first process of the namespaces: the child of unshare."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def _environment(self) -> dict[str, str]:
        path = "/e2e/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": "/tmp", "KUBECONFIG": "/e2e/admin.kubeconfig", "LC_ALL": "C.UTF-8"}


def until(condition: Callable[[], Any], what: str, seconds: float = 120, every_s: float = 0.25) -> Any:
    """Wait for a condition; what it gave.

    Raises:
        TimeoutError: it did not come true.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(every_s)
    return found


@contextmanager
def node(root: Path, binaries: Path, work: Path) -> Generator[Cluster]:
    """Start a node, and end all of it: processes, images, volumes, control groups.

    Args:
        root: a Debian with containerd, etcd and the others; its /var/lib is written to.
        binaries: node, kubectl, helm, coredns.
        work: an empty folder.
    """
    (work / "bin").mkdir(parents=True)
    for binary in binaries.iterdir():
        shutil.copy2(binary, work / "bin")
    shutil.copy2(Path(__file__).with_name("inside.py"), work)
    _forget(root)
    (root / "var/lib/kubelet").mkdir(parents=True)
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER]
    with (work / "inside.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "ROOT": str(root), "WORK": str(work)}, stdout=log, stderr=log
        )
    try:
        cluster = Cluster(work, process)
        until(
            lambda: (work / "started").exists() or process.poll() is not None,
            "the processes of the node",
            START_S,
        )
        if process.poll() is not None:
            sys.exit(f"the node does not start:\n{(work / 'inside.log').read_text()[-3000:]}")
        yield cluster
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: _forget(root), "the node's processes end", END_S)


def _forget(root: Path) -> bool:
    """Remove what a node that has ended leaves; whether nothing of it runs any more."""
    for left in _STATE:
        shutil.rmtree(root / "var/lib" / left, ignore_errors=True)
    groups = [
        each
        for pattern in ("kubepods", "*/kubepods")
        for top in _CGROUPS.glob(pattern)
        for each in (*top.rglob("*/"), top)
    ]
    for group in sorted(groups, key=lambda group: len(group.parts), reverse=True):
        try:
            group.rmdir()
        except OSError:
            return False  # a process that was killed is not gone yet
    return True


def is_ready(cluster: Cluster) -> bool:
    """Whether the node takes pods."""
    done = cluster.ask("/e2e/bin/kubectl", "get", "nodes", "-o", "json")
    if done.returncode:
        return False
    conditions = [each for item in json.loads(done.stdout)["items"] for each in item["status"]["conditions"]]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
