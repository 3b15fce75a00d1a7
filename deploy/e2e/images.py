"""The images of the test, built without a registry and without a network, inside the node: from
bases that debootstrap has made, wheels, and Kafka's jars from Maven.

The images of Kafka and PostgreSQL have what the chart needs of the official ones: Kafka's two
scripts in /opt/kafka/bin, initdb and postgres on the PATH.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

from node import Cluster

PERDURE: Final = "localhost/perdure:0.1.0"
APP: Final = "localhost/shop"
PRINTED: Final = "localhost/printed:1"
KAFKA: Final = "localhost/kafka:1"
POSTGRES: Final = "localhost/postgres:1"
ROOT: Final = Path(__file__).parents[2]

_KAFKA: Final = """
FROM localhost/jre:1
COPY jars /opt/kafka/libs
COPY bin /opt/kafka/bin
RUN chmod +x /opt/kafka/bin/*.sh && mkdir -p /opt/kafka/logs
USER 1000
"""
_SCRIPTS: Final = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
}
_SCRIPT: Final = (
    '#!/bin/sh\nexec java $KAFKA_HEAP_OPTS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "/opt/kafka/libs/*" '
    '{main} "$@"\n'
)
_POSTGRES: Final = """
FROM localhost/debian-postgres:1
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
RUN echo 'server:x:999:999::/tmp:/bin/sh' >> /etc/passwd
USER 999
"""
_PAUSE: Final = 'FROM scratch\nCOPY catatonit /catatonit\nENTRYPOINT ["/catatonit", "-P"]\n'


def build(cluster: Cluster, bases: dict[str, Path], wheels: Path, jars: Path) -> dict[str, float]:
    """Build all, and hand them to containerd.

    Args:
        cluster: where.
        bases: root folders of `python`, `jre` and `debian-postgres`.
        wheels: perdure's, and of all that it needs.
        jars: Kafka's.

    Returns:
        Megabytes by image.
    """
    images = cluster.work / "images"
    images.mkdir()
    (cluster.work / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    cluster.run("mkdir", "-p", "/etc/containers")
    cluster.run("cp", "/e2e/policy.json", "/etc/containers/policy.json")
    _pause(cluster)
    for name, folder in bases.items():
        _base(cluster, name, folder)
    context = _fresh(cluster.work / "context")
    shutil.copytree(wheels, context / "wheels")
    shutil.copytree(ROOT / "deploy/container", context / "container")
    arguments = ["--build-arg", "BASE=localhost/python:1", "--build-arg", "WHEELS=wheels"]
    sizes = {
        "perdure": _bud(cluster, PERDURE, "/e2e/context", "/e2e/context/container/Containerfile", *arguments)
    }
    sizes["kafka"] = _kafka(cluster, jars)
    _file(cluster, "postgres", _POSTGRES)
    sizes["postgres"] = _bud(cluster, POSTGRES, "/e2e/postgres", "/e2e/postgres/Containerfile")
    return sizes


def build_app(cluster: Cluster, tag: str, *, patch: tuple[str, str] | None = None) -> str:
    """The example's image on top of perdure's.

    Args:
        cluster: where.
        tag: of the image.
        patch: replaces a text of the workflow's code by another, for an upgrade.

    Returns:
        The image.
    """
    context = _fresh(cluster.work / f"app-{tag}")
    shutil.copytree(
        ROOT / "examples/ecommerce_order",
        context / "ecommerce_order",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    if patch is not None:
        code = context / "ecommerce_order/workflows.py"
        text = code.read_text()
        assert patch[0] in text
        code.write_text(text.replace(*patch))
    shutil.copy2(ROOT / "deploy/container/Containerfile.app", context / "Containerfile")
    image = f"{APP}:{tag}"
    _bud(
        cluster,
        image,
        f"/e2e/app-{tag}",
        f"/e2e/app-{tag}/Containerfile",
        "--build-arg",
        f"PERDURE={PERDURE}",
    )
    return image


def build_printed(cluster: Cluster) -> str:
    """The derived image of deploy/container/README.md, as printed there; pip finds the package in a
    folder, since there is no network.

    Args:
        cluster: where.

    Returns:
        The image, whose Python has the package `stripe`.
    """
    from tests.chart.test_image import printed, wheel

    context, packages = _file(cluster, "printed", printed()), _fresh(cluster.work / "packages")
    wheel(packages, "stripe")
    (packages / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /packages\n")
    volumes = (
        "--volume",
        "/e2e/packages:/packages:ro",
        "--volume",
        "/e2e/packages/pip.conf:/etc/pip.conf:ro",
    )
    _bud(cluster, PRINTED, f"/e2e/{context.name}", f"/e2e/{context.name}/Containerfile", *volumes)
    return PRINTED


def _pause(cluster: Cluster) -> None:
    context = _file(cluster, "pause", _PAUSE)
    cluster.run("cp", "/usr/bin/catatonit", f"/e2e/{context.name}/catatonit")
    _bud(cluster, "localhost/pause:1", "/e2e/pause", "/e2e/pause/Containerfile")


def _base(cluster: Cluster, name: str, folder: Path) -> None:
    context = _file(cluster, f"base-{name}", "FROM scratch\nADD base.tar /\n")
    import subprocess

    command = [
        "tar",
        "-C",
        str(folder),
        "--one-file-system",
        "--exclude=./proc/*",
        "--exclude=./sys/*",
        "--exclude=./dev/*",
        "-cf",
        str(context / "base.tar"),
        ".",
    ]
    subprocess.run(command, check=True)
    cluster.run(*_BUD, "-t", f"localhost/{name}:1", f"/e2e/{context.name}", timeout=600)
    (context / "base.tar").unlink()


def _kafka(cluster: Cluster, jars: Path) -> float:
    context = _file(cluster, "kafka", _KAFKA)
    shutil.copytree(jars, context / "jars")
    (context / "bin").mkdir()
    for script, main in _SCRIPTS.items():
        (context / "bin" / script).write_text(_SCRIPT.format(main=main))
    return _bud(cluster, KAFKA, "/e2e/kafka", "/e2e/kafka/Containerfile")


_BUILDAH: Final = ("buildah", "--storage-driver", "overlay")
_BUD: Final = (
    *_BUILDAH,
    "bud",
    "--isolation",
    "chroot",
    "--ulimit",
    "nofile=1024:4096",
    "--ulimit",
    "nproc=1024:4096",
)
"""What buildah would raise by default it may not raise where the node runs in a sandbox."""


def _bud(cluster: Cluster, image: str, context: str, file: str, *arguments: str) -> float:
    """Build an image and import it; its megabytes."""
    cluster.run(*_BUD, "--pull-never", "-t", image, "-f", file, *arguments, context, timeout=600)
    archive = f"/e2e/images/{time.time_ns()}.tar"
    cluster.run(*_BUILDAH, "push", image, f"docker-archive:{archive}:{image}", timeout=600)
    cluster.run("ctr", "-n", "k8s.io", "images", "import", archive, timeout=600)
    path = cluster.work / "images" / Path(archive).name
    size = path.stat().st_size / 1e6
    path.unlink()
    return round(size)


def _file(cluster: Cluster, name: str, text: str) -> Path:
    context = _fresh(cluster.work / name)
    (context / "Containerfile").write_text(text)
    return context


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
