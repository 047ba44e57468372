from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

from mycelium.base.home import At, AuthorityFiles, Directory, GatewayFiles, Home, NodeFiles, RayFiles, TlsFiles

ROOT = Path("/h")
HOME = Home(ROOT)


def table() -> set[str]:
    """Every path below the home that the table knows, relative to it."""
    gateways = [HOME.gateway(1), HOME.gateway(2)]
    inner: list[Directory] = [HOME, HOME.tls, HOME.ca, HOME.ray, HOME.node("node-1")]
    found = [getattr(each, name) for each in inner for name, value in vars(type(each)).items() if isinstance(value, At)]
    found += [each.path for each in inner[1:]] + [HOME.node("node-1").step("job-1-a1-r0")]
    found += [getattr(each, name) for each in gateways for name in ("pid", "json", "log")]
    return {str(path.relative_to(ROOT)) for path in found}


def documented() -> list[str]:
    """The names under "On disk" in ARCHITECTURE.md, as patterns."""
    text = Path(__file__).parents[3].joinpath("ARCHITECTURE.md").read_text()
    block = text.partition("## On disk")[2].partition("```")[2].partition("```")[0]
    names = [line.partition("  ")[0] for line in block.splitlines() if line[:1].strip()]
    return [name.strip() for line in names for name in line.split(",")]


def matches(path: str, pattern: str) -> bool:
    pattern = pattern.replace("<node>", "node-*").replace("<step>", "job-*")
    return fnmatch.fnmatch(path, pattern.rstrip("/")) or (pattern.endswith("/") and path.startswith(pattern))


def test_paths_lie_where_their_names_say():
    assert HOME.log == ROOT / "site.db"
    assert HOME.admin_token == ROOT / "tokens" / "admin"
    assert HOME.node("node-3").step("job-1-a1-r0") == ROOT / "nodes" / "node-3" / "steps" / "job-1-a1-r0"
    assert HOME.tls.ca == ROOT / "tls" / "ca.pem"
    assert HOME.ca.key == ROOT / "ca" / "authority.key"
    assert HOME.ray.token == ROOT / "ray" / "token"


def test_the_first_gateway_has_no_number_in_its_names():
    assert HOME.gateway(1).pid == ROOT / "gateway.pid"
    assert HOME.gateway(12).json == ROOT / "gateway-12.json"


def test_gateways_are_found_by_their_pid_files_and_nothing_else_is():
    own = [HOME.gateway(number).pid.name for number in (12, 1, 2)]
    others = ["gateway.batches", "gateway-x.pid", "gateway-2.json", "gateway-.pid", ".gateway.pid", "gateway-12345.pid"]
    assert Home.gateway_numbers([*own, *others]) == [1, 2, 12]


@pytest.mark.parametrize("kind", [Home, TlsFiles, AuthorityFiles, RayFiles, NodeFiles])
def test_no_two_names_mean_one_path(kind: type[Directory]):
    names = [value.name for value in vars(kind).values() if isinstance(value, At)]
    assert len(names) == len(set(names))
    assert GatewayFiles(ROOT, "gateway").pid.name not in names


def test_homes_of_one_path_are_equal():
    assert Home(Path("/h")) == HOME
    assert {Home(Path("/h")), HOME} == {HOME}


def test_what_the_architecture_says_of_the_disk_is_the_table():
    paths, patterns = table(), documented()
    assert [path for path in sorted(paths) if not any(matches(path, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(matches(path, pattern) for path in paths)] == []
