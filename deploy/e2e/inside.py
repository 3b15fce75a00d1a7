"""The processes of a node, one after the other, inside the namespaces that `node.py` has made. Runs
under the root's own Python, so it imports nothing of ours.

usage: python3 inside.py WORK
    as the first process of the namespaces; ends when it is killed, and everything with it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

NODE_IP = "10.124.0.1"
PODS = "10.125.0.0/16"
SERVICES = "10.126.0.0/24"
DNS_IP = NODE_IP
KUBELET_DIR = "/var/lib/kubelet"
KUBELET_MIB = 512
NODEFS_FREE_MIB = 100
TOKENS = {
    "admin": "system:masters",
    "system:node:node": "system:nodes",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
}


def main() -> None:
    work = Path(sys.argv[1])
    network()
    files(work)
    # a small disk of its own: it can be filled without filling the machine's
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={KUBELET_MIB}m", "tmpfs", KUBELET_DIR], check=True)
    spawn(
        work, "etcd", "etcd", "--data-dir", "/var/lib/etcd-e2e", "--unsafe-no-fsync", "--log-level", "error"
    )
    spawn(work, "containerd", "containerd", "--config", str(work / "containerd.toml"))
    until(lambda: Path("/run/containerd/containerd.sock").exists(), "containerd")
    spawn(work, "kube-apiserver", str(work / "bin/node"), "kube-apiserver", *apiserver(work))
    until(lambda: answers(f"https://{NODE_IP}:6443/readyz"), "kube-apiserver")
    keys = ["--use-service-account-credentials", f"--service-account-private-key-file={work}/sa.key"]
    spawn(
        work, "kube-controller-manager", str(work / "bin/node"), "kube-controller-manager",
        f"--kubeconfig={config(work, 'system:kube-controller-manager')}",
        f"--root-ca-file={work}/pki/apiserver.crt", "--leader-elect=false", *keys,
    )  # fmt: skip
    spawn(
        work, "kube-scheduler", str(work / "bin/node"), "kube-scheduler",
        f"--kubeconfig={config(work, 'system:kube-scheduler')}",
        "--leader-elect=false",
    )  # fmt: skip
    spawn(
        work, "kubelet", str(work / "bin/node"), "kubelet",
        f"--kubeconfig={config(work, 'system:node:node')}", f"--config={work}/kubelet.json",
        f"--node-ip={NODE_IP}", "--hostname-override=node",
    )  # fmt: skip
    spawn(
        work, "kube-proxy", str(work / "bin/node"), "kube-proxy",
        f"--kubeconfig={config(work, 'system:kube-proxy')}", "--proxy-mode=nftables",
        "--conntrack-max-per-core=0", f"--cluster-cidr={PODS}", "--hostname-override=node",
    )  # fmt: skip
    spawn(work, "coredns", str(work / "bin/coredns"), "-conf", str(work / "Corefile"))
    config(work, "admin")
    (work / "started").touch()
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(1)


def network() -> None:
    for command in (
        "ip link set lo up",
        "ip link add node0 type bridge",
        f"ip addr add {NODE_IP}/24 dev node0",
        "ip link set node0 up",
        f"ip route add default via {NODE_IP} dev node0",
    ):
        subprocess.run(command.split(), check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/etc/resolv.conf").write_text(f"nameserver {DNS_IP}\n")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{NODE_IP} node\n")


def files(work: Path) -> None:
    lines = [
        f'{token(user)},{user},{number},"{group}"' for number, (user, group) in enumerate(TOKENS.items())
    ]
    (work / "tokens.csv").write_text("\n".join(lines) + "\n")
    subprocess.run(
        ["openssl", "genrsa", "-out", str(work / "sa.key"), "2048"], check=True, capture_output=True
    )
    (work / "containerd.toml").write_text(
        """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""
    )
    Path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.125.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]},
    }  # fmt: skip
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    Path("/etc/cni/net.d/10-pods.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
    )
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "failSwapOn": False,
        "resolvConf": "/etc/resolv.conf",
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": f"{NODEFS_FREE_MIB}Mi",
            "imagefs.available": "1%",
        },
        "evictionPressureTransitionPeriod": "30s",
        "volumeStatsAggPeriod": "5s",  # who has used most is judged by it
        "podPidsLimit": 4096,
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        "shutdownGracePeriod": "0s",
    }
    (work / "kubelet.json").write_text(json.dumps(kubelet))
    (work / "Corefile").write_text(
        f""".:53 {{
    bind {DNS_IP}
    errors
    kubernetes cluster.local {{
        kubeconfig {work}/admin.kubeconfig
    }}
    cache 5
}}
"""
    )
    config(work, "admin")


def apiserver(work: Path) -> list[str]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--cert-dir={work}/pki",
        f"--advertise-address={NODE_IP}",
        f"--bind-address={NODE_IP}",
        f"--token-auth-file={work}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICES}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={work}/sa.key",
        f"--service-account-signing-key-file={work}/sa.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=false",
    ]


def config(work: Path, user: str) -> Path:
    """A kubeconfig."""
    path = work / f"{user.replace(':', '-')}.kubeconfig"
    found = {
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {"server": f"https://{NODE_IP}:6443",
                    "insecure-skip-tls-verify": True}}],
        "users": [{"name": user, "user": {"token": token(user)}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return path


def token(user: str) -> str:
    """No secret: the node is reached from its own namespaces only."""
    return f"token-of-{user.replace(':', '-')}"


def spawn(work: Path, name: str, *command: str) -> None:
    with (work / f"{name}.log").open("ab") as log:
        subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": "/root"})


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what} does not start; see its log")
        time.sleep(0.1)


def answers(url: str) -> bool:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # its own, made at its start
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token('admin')}"})
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
