from __future__ import annotations

from mycelium.sandbox.box import WORK, Box, arguments, below

LINKS = {"/bin": "usr/bin", "/lib": "usr/lib"}


def words(box: Box) -> list[str]:
    return arguments(box, links=LINKS, source=lambda path: f"/staged{path}", status_fd=9)


def pairs(box: Box, option: str) -> list[tuple[str, str]]:
    said = words(box)
    return [(said[place + 1], said[place + 2]) for place, word in enumerate(said) if word == option]


BOX = Box(work="/home/steps/a/work", etc="/home/etc", env={"A": "b c", "PATH": "/bin"})


def test_only_the_work_is_bound_writable() -> None:
    assert pairs(BOX, "--bind") == [("/staged/home/steps/a/work", WORK)]


def test_everything_is_unshared_but_a_net_that_was_asked_for() -> None:
    assert "--unshare-all" in words(BOX)
    assert "--share-net" not in words(BOX)
    assert "--share-net" in words(BOX._replace(net=True))


def test_links_of_the_system_stay_links_and_its_directories_are_read_only() -> None:
    assert ("usr/bin", "/bin") in pairs(BOX, "--symlink")
    assert ("/usr", "/usr") in pairs(BOX, "--ro-bind-try")
    assert ("/bin", "/bin") not in pairs(BOX, "--ro-bind-try")


def test_the_hosts_names_and_resolver_are_shown_only_with_net() -> None:
    shown = ("/etc/resolv.conf", "/etc/resolv.conf")
    assert shown not in pairs(BOX, "--ro-bind-try")
    assert shown in pairs(BOX._replace(net=True), "--ro-bind-try")


def test_the_environment_is_cleared_and_then_set() -> None:
    assert pairs(BOX, "--setenv") == [("A", "b c"), ("PATH", "/bin")]
    assert words(BOX).index("--clearenv") < words(BOX).index("--setenv")


def test_a_hidden_directory_is_covered_where_it_would_show() -> None:
    box = BOX._replace(prefixes=("/opt/python",), hidden=("/opt/python/site", "/home", "/usr/local/site", "/usrx"))
    said = words(box)
    covered = [said[place + 1] for place, word in enumerate(said) if word == "--tmpfs"]
    assert covered == ["/tmp", "/dev/shm", "/opt/python/site", "/usr/local/site"]


def test_a_cover_comes_after_what_it_covers() -> None:
    said = words(BOX._replace(prefixes=("/opt/python",), hidden=("/opt/python/site",)))
    assert said.index("/staged/opt/python") < said.index("/opt/python/site")


def test_the_root_and_dev_are_closed_last_of_all_mounts() -> None:
    said = words(BOX)
    mounts = [place for place, word in enumerate(said) if word in ("--bind", "--ro-bind", "--tmpfs", "--proc", "--dev")]
    assert max(mounts) < said.index("--remount-ro") < said.index("--clearenv")


def test_only_the_steps_own_gpus_are_shown() -> None:
    assert not pairs(BOX, "--dev-bind-try")
    shown = [path for path, _ in pairs(BOX._replace(gpus=(1,)), "--dev-bind-try")]
    assert "/dev/nvidia1" in shown
    assert "/dev/nvidia0" not in shown


def test_a_path_is_below_itself_and_its_parents_only() -> None:
    assert below("/a/b", "/a/b")
    assert below("/a/b/c", "/a/b")
    assert below("/a", "/")
    assert not below("/a/bc", "/a/b")
    assert not below("/a", "/a/b")
