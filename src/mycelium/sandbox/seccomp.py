"""System calls that no step needs and that have let programs out of sandboxes before: they answer EPERM.

A deny list in classic BPF, as bubblewrap wants it. 32-bit calls on a 64-bit kernel would slip past the numbers, so they
answer ENOSYS altogether.

Source: seccomp(2); Docker's default profile (moby/profiles/seccomp); the numbers are the kernel's syscall tables.
"""

from __future__ import annotations

import errno
import platform
import struct

# name: (x86_64, aarch64)
DENIED = {
    "add_key": (248, 217),  # kernel keyrings are shared by everything that runs as the same host user
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "lookup_dcookie": (212, 18),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32_BIT = 0x40000000

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER_OFFSET, ARCHITECTURE_OFFSET = 0, 4


def program(machine: str = platform.machine()) -> bytes:
    """The filter for this machine; empty where the numbers are not known."""
    if machine not in ARCHITECTURES:
        return b""
    column, architecture = ARCHITECTURES[machine]
    numbers = [row[column] for row in DENIED.values()]
    code = [
        (LOAD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
        (LOAD, 0, 0, NUMBER_OFFSET),
        (JUMP_GREATER_EQUAL, 0, 1, X32_BIT),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    for place, number in enumerate(numbers):
        code.append((JUMP_EQUAL, len(numbers) - place, 0, number))
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in code)
