"""A bad stretch of cable: a program between two taps that lets frames wait and loses some, both ways.

It does what netem does, on kernels that have none. `python spoiler.py TAP TAP DELAY_MS LOSS` makes the taps in the
namespace that it runs in, and they are gone when it ends.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
FRAME_BYTES_MAX = 65_600
WAITING_MAX = 10_000  # frames; a cable holds no more either


def main(one: str, other: str, delay_ms: str, loss: str) -> None:
    ends = [tap(one), tap(other)]
    across = {ends[0]: ends[1], ends[1]: ends[0]}
    chance = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    print("ready", flush=True)
    while True:
        patience_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select(ends, [], [], patience_s)
        for end in readable:
            frame = os.read(end, FRAME_BYTES_MAX)
            if chance.random() >= float(loss) and len(waiting) < WAITING_MAX:
                number += 1
                heapq.heappush(waiting, (time.monotonic() + float(delay_ms) / 1000, number, across[end], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(waiting)
            try:
                os.write(end, frame)
            except OSError:
                continue  # that side is not up yet


def tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


if __name__ == "__main__":
    main(*sys.argv[1:])
