"""What a sandboxed step sees, as the arguments of bubblewrap.

Everything is unshared, the system is read-only, and only what is named here exists inside. The agent's home directory
never does, not even when it lies below a directory that is shown.

Never: runs anything, or opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

WORK = "/job"  # hardly a path that a host has: Python's prefix may lie below /work or /home
UID_INSIDE = 1000
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ONLY_WITH_NET = ("/etc/resolv.conf", "/etc/hosts")
SHOWN_OF_SYS = ("/sys/devices/system/cpu",)  # how many cpus there are; runtimes choose their threads by it
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")


class Box(NamedTuple):
    """One sandbox. Paths are the host's; `links` are those of `SYSTEM` that are symbolic links on this host."""

    work: str
    etc: str
    env: Mapping[str, str]
    prefixes: tuple[str, ...] = ()  # read-only trees besides the system, shown where they are
    hidden: tuple[str, ...] = ()
    net: bool = False
    tmp_bytes: int = 1 << 26
    shm_bytes: int = 1 << 26
    hostname: str = "node"
    gpus: tuple[int, ...] = ()

    @property
    def staged(self) -> tuple[str, ...]:
        """Host paths that an unprivileged user may be unable to reach."""
        return (self.work, self.etc, *self.prefixes)


def below(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def arguments(box: Box, *, links: Mapping[str, str], source: Callable[[str], str], status_fd: int) -> list[str]:
    """Arguments up to the command. `source` says where a staged path can be reached at this moment."""
    words = ["--unshare-all", "--unshare-user", "--disable-userns", *(["--share-net"] if box.net else [])]
    words += ["--uid", str(UID_INSIDE), "--gid", str(UID_INSIDE), "--hostname", box.hostname]
    words += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--json-status-fd", str(status_fd)]
    for path in SYSTEM:
        words += ["--symlink", links[path], path] if path in links else ["--ro-bind-try", path, path]
    words += ["--ro-bind", source(box.etc), "/etc"]
    if box.net:
        for path in ONLY_WITH_NET:
            words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path in SHOWN_OF_SYS:
        words += ["--ro-bind-try", path, path]
    if box.gpus:
        for path in (*GPU_DEVICES, *(f"/dev/nvidia{gpu}" for gpu in box.gpus)):
            words += ["--dev-bind-try", path, path]
    words += ["--perms", "1777", "--size", str(box.tmp_bytes), "--tmpfs", "/tmp"]
    words += ["--perms", "1777", "--size", str(box.shm_bytes), "--tmpfs", "/dev/shm"]
    for path in box.prefixes:
        words += ["--ro-bind", source(path), path]
    for path in box.hidden:
        if any(below(path, tree) for tree in (*SYSTEM, *box.prefixes)):
            words += ["--perms", "0000", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
    words += ["--bind", source(box.work), WORK, "--chdir", WORK]
    # The tmpfs below / and /dev have no size of their own: memory that no limit would count.
    words += ["--remount-ro", "/dev", "--remount-ro", "/"]
    words += ["--clearenv"]
    for name, value in box.env.items():
        words += ["--setenv", name, value]
    return words
