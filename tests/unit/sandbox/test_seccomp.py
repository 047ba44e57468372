from __future__ import annotations

import errno
import struct

import pytest

from mycelium.sandbox import seccomp

ALLOWED, EPERM, ENOSYS = seccomp.ALLOW, seccomp.ERRNO | errno.EPERM, seccomp.ERRNO | errno.ENOSYS


def verdict(program: bytes, number: int, architecture: int) -> int:
    """Run the filter as the kernel would, for one system call."""
    code = list(struct.iter_unpack("HBBI", program))
    data = {seccomp.NUMBER_OFFSET: number, seccomp.ARCHITECTURE_OFFSET: architecture}
    place = accumulator = 0
    while True:
        operation, if_true, if_false, operand = code[place]
        place += 1
        if operation == seccomp.LOAD:
            accumulator = data[operand]
        elif operation == seccomp.RETURN:
            return operand
        else:
            holds = accumulator == operand if operation == seccomp.JUMP_EQUAL else accumulator >= operand
            place += if_true if holds else if_false


@pytest.mark.parametrize("machine", sorted(seccomp.ARCHITECTURES))
def test_what_is_denied_answers_eperm_and_everything_else_is_allowed(machine: str) -> None:
    column, architecture = seccomp.ARCHITECTURES[machine]
    denied = {row[column] for row in seccomp.DENIED.values()}
    program = seccomp.program(machine)
    assert {number for number in range(600) if verdict(program, number, architecture) == EPERM} == denied
    assert all(verdict(program, number, architecture) == ALLOWED for number in set(range(600)) - denied)


@pytest.mark.parametrize("machine", sorted(seccomp.ARCHITECTURES))
def test_calls_of_another_architecture_do_not_slip_past_the_numbers(machine: str) -> None:
    _, architecture = seccomp.ARCHITECTURES[machine]
    program = seccomp.program(machine)
    assert verdict(program, 0, 0x40000003) == ENOSYS  # i386
    assert verdict(program, seccomp.X32_BIT + 1, architecture) == ENOSYS


def test_no_call_is_listed_twice_under_two_names() -> None:
    for column in (0, 1):
        numbers = [row[column] for row in seccomp.DENIED.values()]
        assert len(set(numbers)) == len(numbers)


def test_a_machine_whose_numbers_are_unknown_has_no_filter() -> None:
    assert seccomp.program("riscv64") == b""
