"""What a node and its images are made of, got from package registries once and kept: Debian's
packages, Go modules, wheels, Kafka's jars.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "perdure" / "e2e"

NODE_SUITE: Final = "trixie"
NODE_PACKAGES: Final = (
    "containerd", "runc", "containernetworking-plugins", "etcd-server", "nftables", "iptables", "conntrack",
    "iproute2", "ca-certificates",
    "openssl", "catatonit", "buildah", "netavark", "kmod", "util-linux", "procps", "python3",
)  # fmt: skip
IMAGE_SUITE: Final = "bookworm"
"""Its Python must be that of the wheels: this machine's minor version is checked against it."""
IMAGE_PYTHON: Final = (3, 11)
KUBERNETES: Final = "1.36.3"
HELM: Final = "helm.sh/helm/v4/cmd/helm@v4.3.1"
COREDNS: Final = "github.com/coredns/coredns@v1.12.4"


@dataclass(frozen=True)
class Prepared:
    """Where things are.

    Attributes:
        root: of the node, a Debian.
        binaries: node, kubectl, helm, coredns.
        bases: root folders that images begin with, by name.
        wheels: perdure's, and of all that it needs.
        jars: Kafka's.
    """

    root: Path
    binaries: Path
    bases: dict[str, Path]
    wheels: Path
    jars: Path


def prepare() -> Prepared:
    """Get what is missing. The first time takes a quarter of an hour on two cores, most of it the
    Go compiler's.
    """
    if os.geteuid():
        sys.exit("a node needs root: namespaces, mounts and cgroups")
    CACHE.mkdir(parents=True, exist_ok=True)
    _debian_has("debootstrap", "debootstrap")
    root = _made("node", lambda folder: _debootstrap(NODE_SUITE, folder, *NODE_PACKAGES))
    bases = {
        "python": _made(
            "python", lambda folder: _debootstrap(IMAGE_SUITE, folder, "python3", "python3-venv")
        ),
        "jre": _made("jre", lambda folder: _with_packages(folder, "openjdk-17-jre-headless")),
        "debian-postgres": _made("postgres", lambda folder: _with_packages(folder, "postgresql-15")),
    }
    return Prepared(root, _made(f"binaries-{KUBERNETES}", _binaries), bases, _wheels(), _jars())


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """A folder, made once: a half of one is not taken for it."""
    folder, half = CACHE / name, CACHE / f"{name}.half"
    if not folder.exists():
        print(f"making {folder}", flush=True)
        shutil.rmtree(half, ignore_errors=True)
        make(half)
        half.rename(folder)
    return folder


def _debian_has(command: str, package: str) -> None:
    if shutil.which(command) is None:
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)


def _debootstrap(suite: str, folder: Path, *packages: str) -> None:
    _run(
        "debootstrap",
        "--variant=minbase",
        *([f"--include={','.join(packages)}"] if packages else []),
        suite,
        str(folder),
    )


def _with_packages(folder: Path, *packages: str) -> None:
    _debootstrap(IMAGE_SUITE, folder)
    _run("mount", "-t", "proc", "proc", str(folder / "proc"))
    try:
        _run("chroot", str(folder), "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    finally:
        _run("umount", str(folder / "proc"))
    for left in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(folder / left, ignore_errors=True)


def _binaries(folder: Path) -> None:
    folder.mkdir()
    major, minor, _ = KUBERNETES.split(".")
    version = "k8s.io/component-base/version.git"
    flags = f"-s -w -X {version}Version=v{KUBERNETES} -X {version}Major={major} -X {version}Minor={minor}"
    _run("go", "build", "-trimpath", f"-ldflags={flags}", "-o", str(folder / "node"), ".", cwd=HERE / "node")
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    for module in (HELM, COREDNS):
        _run("go", "install", module, env=environment)
    (folder / "kubectl").write_text('#!/bin/sh\nexec /e2e/bin/node kubectl "$@"\n')
    (folder / "kubectl").chmod(0o755)


def _wheels() -> Path:
    """Of this tree as it is now."""
    if sys.version_info[:2] != IMAGE_PYTHON:
        sys.exit(
            f"the images have Python {'.'.join(map(str, IMAGE_PYTHON))}: run it with that, so that the "
            "wheels fit"
        )
    folder = CACHE / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    _run("make", "-C", str(ROOT), "wheels", f"WHEELS={folder}", "EXTRAS=api kafka otel payloads postgres")
    return folder


def _jars() -> Path:
    """Of the broker that the tests run."""
    sys.path.insert(0, str(ROOT))
    from tests.kafka.distribution import classpath

    return Path(classpath().removesuffix("/*"))


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, env=env)
