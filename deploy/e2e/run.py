"""`make e2e-k8s`: one real Kubernetes node on this machine, and a release of the chart on it from
install to uninstall.

usage: python deploy/e2e/run.py [--rate 20] [--umbrella]
    as root on Debian, with Go and Maven; prints what it sees, then its figures as JSON
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import images
import node
import prepared
import story


def main() -> None:
    parser = argparse.ArgumentParser(description="A release on a real Kubernetes node.")
    parser.add_argument("--rate", type=float, default=20, help="orders a second")
    parser.add_argument("--umbrella", action="store_true", help="the umbrella chart alone: five minutes")
    given = parser.parse_args()
    parts = prepared.prepare()
    work = Path(tempfile.mkdtemp(prefix="perdure-e2e-"))
    figures: dict[str, object] = {}
    try:
        begun = time.monotonic()
        with node.node(parts.root, parts.binaries, work) as cluster:
            node.until(lambda: node.is_ready(cluster), "the node is ready", 60)
            story.tell(
                f"the node is ready after {time.monotonic() - begun:.0f} s: "
                f"{cluster.kubectl('version', '-o', 'json').split('gitVersion')[-1][4:12]}"
            )
            figures["images_mb"] = images.build(cluster, parts.bases, parts.wheels, parts.jars)
            story.tell(f"images: {figures['images_mb']}")
            figures |= (
                story.tell_umbrella(cluster) if given.umbrella else story.tell_story(cluster, given.rate)
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
