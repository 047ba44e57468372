"""Which cpus and gpus of the node each step gets: the least used cpus, and gpus of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mycelium.base.errors import Exhausted
from mycelium.nodes.model import Devices


def virtual(
    part: int, parts: int, cores: Sequence[int], memory_bytes: int, gpus: Sequence[int]
) -> tuple[list[int], int, list[int]]:
    """The part-th of `parts` equal shares of a machine. Each has at least one cpu; a remainder goes to the first ones.

    With more shares than cpus, cpus are shared, and the sum of the shares exceeds the machine.
    """
    mine = list(cores[part::parts]) or [cores[part % len(cores)]]
    return mine, memory_bytes // parts, list(gpus[part::parts])


class Share:
    """What the node offers, and what its steps hold of it."""

    def __init__(self, cores: Sequence[int], gpus: Sequence[int]) -> None:
        self.gpus = list(gpus)
        self._load_m = dict.fromkeys(cores, 0)
        self._free_gpus = set(gpus)

    def take(self, asked: Devices) -> tuple[list[int], list[int]]:
        """Cpus to run on, and gpus to own. Errors: Exhausted when not as many gpus are free."""
        if asked.gpus > len(self._free_gpus):
            raise Exhausted(f"step asks for {asked.gpus} gpus; {len(self._free_gpus)} are free on this node")
        gpus = sorted(self._free_gpus)[: asked.gpus]
        count = max(1, -(-asked.cpu_m // 1000))
        cores = sorted(self._load_m, key=lambda core: (self._load_m[core], core))[:count]
        self.hold(asked, cores, gpus)
        return sorted(cores), gpus

    def hold(self, asked: Devices, cores: Iterable[int], gpus: Iterable[int]) -> None:
        self._free_gpus.difference_update(gpus)
        self._add(cores, asked.cpu_m)

    def give_back(self, asked: Devices, cores: Iterable[int], gpus: Iterable[int]) -> None:
        self._free_gpus.update(set(gpus) & set(self.gpus))
        self._add(cores, -asked.cpu_m)

    def _add(self, cores: Iterable[int], cpu_m: int) -> None:
        known = [core for core in cores if core in self._load_m]
        for core in known:
            self._load_m[core] += cpu_m // len(known)
