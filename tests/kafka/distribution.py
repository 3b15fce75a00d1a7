"""Where the Java programs of a broker come from: Maven, once a machine, into a cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
APT = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
PACKAGES = ("openjdk-17-jre-headless", "maven")
INSTALL_S = 600


class KafkaUnavailable(Exception):
    """There is no broker to be had on this machine; the message says why."""


def java() -> str:
    """The program; installed when it is missing and we may.

    Raises:
        KafkaUnavailable: it is missing and cannot be installed.
    """
    _install_missing("java")
    return "java"


def classpath() -> str:
    """What `java -cp` takes; downloads it when the cache has nothing made from this pom.xml.

    Raises:
        KafkaUnavailable: Maven is missing, or its download failed.
    """
    folder = cache() / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        _download(folder)
    return f"{folder}{os.sep}*"


def cache() -> Path:
    """Where downloads are kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perdure"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_maven(*arguments: str) -> None:
    """Maven, which is installed when it is missing and we may.

    Raises:
        KafkaUnavailable: it is missing and cannot be installed, or fails.
    """
    _install_missing("mvn")
    _run(["mvn", "--quiet", "--batch-mode", *arguments])


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        jars = Path(scratch) / "jars"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        run_maven(f"--file={POM}", *goal)
        try:
            jars.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was quicker
                raise


def _install_missing(program: str) -> None:
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise KafkaUnavailable(
            f"{program} is missing, and only root on Debian may install it: install a JDK 17 and Maven"
        )
    _run(["apt-get", "update", "-qq"])
    _run([*APT, *PACKAGES])


def _run(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode:
        raise KafkaUnavailable(f"{' '.join(command)} failed: {(done.stdout + done.stderr).strip()[-1000:]}")
