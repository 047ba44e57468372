"""What is taken of the nodes, and until when at most, as arrays: what backfill is reckoned from.

A lease ends at the latest when its time limit, counted from its placement, is over.
"""

from __future__ import annotations

import numpy as np

from mycelium.base.ids import JobId
from mycelium.jobs.table import DEVICES, Ints
from mycelium.nodes.model import Devices

Row = tuple[int, int, Devices]  # end, slot and devices of one rank


class Leases:
    """Rows as arrays, each a rank of a running task."""

    def __init__(self, ends_ns: Ints, slots: Ints, devices: Ints) -> None:
        self.ends_ns = ends_ns
        self.slots = slots
        self.devices = devices

    @classmethod
    def of(cls, rows: list[Row]) -> Leases:
        return cls(
            np.array([end for end, _, _ in rows], dtype=np.int64),
            np.array([slot for _, slot, _ in rows], dtype=np.int64),
            np.array([(d.cpu_m, d.memory_bytes, d.gpus) for _, _, d in rows], np.int64).reshape(-1, DEVICES).T,
        )

    def __len__(self) -> int:
        return len(self.slots)

    def __add__(self, other: Leases) -> Leases:
        return Leases(
            np.concatenate((self.ends_ns, other.ends_ns)),
            np.concatenate((self.slots, other.slots)),
            np.concatenate((self.devices, other.devices), axis=1),
        )

    def kept(self, which: Ints) -> Leases:
        return Leases(self.ends_ns[which], self.slots[which], self.devices[:, which])

    def honest(self, now_ns: int, grace_ns: int) -> Leases:
        """The same, where what has outlived its limit ends within the grace that a node gives it."""
        return Leases(np.where(self.ends_ns > now_ns, self.ends_ns, now_ns + grace_ns), self.slots, self.devices)


class HeldLeases:
    """The leases of jobs of one task on one node, most of all there are: kept current, so that no pass reads them anew.

    Cost: constant for each; the arrays double when they are full.
    """

    def __init__(self) -> None:
        self.names: list[JobId] = []
        self._rows: list[Row] = []
        self._where: dict[JobId, int] = {}
        self._ends_ns: Ints = np.zeros(64, dtype=np.int64)
        self._slots: Ints = np.zeros(64, dtype=np.int64)
        self._devices: Ints = np.zeros((DEVICES, 64), dtype=np.int64)

    def set(self, job: JobId, row: Row | None) -> None:
        """What the job holds now; None for nothing."""
        place = self._where.get(job)
        if row is None:
            if place is not None:
                self._remove(job, place)
        elif place is None:
            self._where[job] = len(self._rows)
            self.names.append(job)
            self._rows.append(row)
            self._grow()
            self._write(len(self._rows) - 1)
        elif self._rows[place] != row:
            self._rows[place] = row
            self._write(place)

    def leases(self) -> Leases:
        count = len(self._rows)
        return Leases(self._ends_ns[:count], self._slots[:count], self._devices[:, :count])

    def facts(self) -> dict[JobId, Row]:
        return {job: self._rows[place] for job, place in self._where.items()}

    def insert_slot(self, slot: int) -> None:
        """A node came in before others: theirs move up by one."""
        self._rows = [(end, place + (place >= slot), devices) for end, place, devices in self._rows]
        self._slots += self._slots >= slot

    def _remove(self, job: JobId, place: int) -> None:
        """The last row moves into the place of the one that goes."""
        del self._where[job]
        name, row = self.names.pop(), self._rows.pop()
        if name != job:
            self.names[place], self._rows[place] = name, row
            self._where[name] = place
            self._write(place)

    def _grow(self) -> None:
        size = len(self._slots)
        if len(self._rows) > size:
            self._ends_ns = np.resize(self._ends_ns, 2 * size)
            self._slots = np.resize(self._slots, 2 * size)
            self._devices = np.concatenate((self._devices, np.zeros_like(self._devices)), axis=1)

    def _write(self, place: int) -> None:
        end_ns, slot, devices = self._rows[place]
        self._ends_ns[place] = end_ns
        self._slots[place] = slot
        self._devices[:, place] = (devices.cpu_m, devices.memory_bytes, devices.gpus)
