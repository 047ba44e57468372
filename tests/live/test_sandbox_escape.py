"""A stranger's step tries to get out, and to bring the machine down. Every attempt is bounded by itself as well."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mycelium.agent import probes
from mycelium.base.limits import STEP_PROCESSES_MAX
from mycelium.base.units import MIB
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import Reason
from mycelium.nodes.model import Devices
from mycelium.sandbox import usage
from tests.live.boxes import python, result, run
from tests.live.conformance.play import running
from tests.live.walls import needs_sandbox

pytestmark = needs_sandbox


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_heads_database_tokens_and_other_jobs_are_not_there(home: Path) -> None:
    home.mkdir(mode=0o755)
    for name in ("site.db", "tokens"):
        (home / name).write_text("secret")
    neighbour = python("job-1-a1-r0", "open('mine', 'w').write('secret'); import time; time.sleep(3)")
    spy = python(
        "job-2-a1-r0",
        f"""
        import os, pathlib, time
        time.sleep(1)
        found = []
        for top, _, names in os.walk("/"):
            if not top.startswith(("/proc", "/sys", "/usr", "/dev")):
                found += [os.path.join(top, name) for name in names if name in ("site.db", "tokens", "mine", "spec")]
        print(found, os.path.exists({str(home)!r}), os.listdir("."))
        for where in ("/proc/1/root", "/proc/1/cwd", "/proc/self/root"):
            try:
                print(open(where + {str(home / "site.db")!r}).read())
            except OSError as error:
                print("refused")
        """,
    )
    _, spied = run(home, neighbour, spy)
    assert spied.stdout == "[] False []\nrefused\nrefused\nrefused\n", spied.stderr


def test_a_home_below_a_shown_directory_is_covered(home: Path) -> None:
    """A home inside Python's own prefix, which every sandbox shows."""
    prefix = Path(sys.prefix)
    inside = prefix / f"test-home-{os.getpid()}"
    if str(prefix) not in probes.python_prefixes() or not os.access(prefix, os.W_OK):
        pytest.skip(f"{prefix} is no prefix that sandboxes show, or cannot be written to")
    inside.mkdir()
    try:
        (inside / "site.db").write_text("secret")
        (spied,) = run(inside, python("job-1-a1-r0", f"import os; print(os.path.exists({str(inside / 'site.db')!r}))"))
        assert spied.stdout == "False\n", spied
    finally:
        subprocess.run(["rm", "-rf", str(inside)], check=True)


def test_the_environment_holds_nothing_of_the_agents(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYC_TOKEN", "secret")  # the agent inherits it
    (spied,) = run(
        home,
        python(
            "job-1-a1-r0",
            """
            import glob, os
            print("MYC_TOKEN" in os.environ)
            for path in glob.glob("/proc/[0-9]*/environ"):
                try:
                    print(b"MYC_TOKEN" in open(path, "rb").read())
                except PermissionError:
                    print(False)
            """,
        ),
    )
    assert set(spied.stdout.split()) == {"False"}


def test_secrets_in_a_steps_environment_are_in_no_command_line(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            await site.start(python("job-1-a1-r0", "import time; time.sleep(60)", env={"API_KEY": "hunter2hunter2"}))
            await site.started("job-1-a1-r0")
            for pid in usage.pids():
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                assert b"hunter2hunter2" not in words

    asyncio.run(script())


def test_the_hosts_accounts_are_not_shown(home: Path) -> None:
    (spied,) = run(
        home,
        python(
            "job-1-a1-r0",
            """
            import os, pwd
            print(os.path.exists("/etc/shadow"), [user.pw_name for user in pwd.getpwall()], os.getuid())
            print(os.path.exists("/etc/ssl/private"), os.path.exists("/root/.ssh"), os.path.exists("/home"))
            """,
        ),
    )
    assert spied.stdout == "False ['root', 'myc', 'nobody'] 1000\nFalse False False\n"


def test_foreign_processes_are_neither_seen_nor_signalled(home: Path) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        (spied,) = run(
            home,
            python(
                "job-1-a1-r0",
                f"""
                import os, signal
                print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) == [1, os.getpid()])
                for pid in ({victim.pid}, {os.getpid()}, -1):  # -1 is everybody but the first process and ourselves
                    try:
                        os.kill(pid, signal.SIGKILL)
                        print("killed")
                    except ProcessLookupError:
                        print("no such process")
                """,
            ),
        )
        assert spied.stdout == "True\n" + "no such process\n" * 3, spied
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_killing_the_sandboxs_first_process_frees_nobody(home: Path) -> None:
    (killed,) = run(
        home,
        python(
            "job-1-a1-r0",
            """
            import os, signal, time
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP):
                os.kill(1, number)
            time.sleep(0.2)
            print("still inside", os.path.exists("/etc/shadow"))
            """,
        ),
    )
    assert killed.stdout == "still inside False\n"


def test_a_loopback_port_of_the_host_is_out_of_reach_unless_the_step_has_net(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"""
            import socket
            try:
                socket.create_connection(("127.0.0.1", {port}), timeout=5)
                print("reached")
            except OSError as error:
                print("refused", len(socket.if_nameindex()))
            """
        without, with_net = run(home, python("job-1-a1-r0", program), python("job-2-a1-r0", program, net=True))
    assert without.stdout == "refused 1\n"
    assert with_net.stdout == "reached\n"


def test_abstract_sockets_of_the_host_are_out_of_reach(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        name = f"\0mycelium-test-{os.getpid()}"
        server.bind(name)
        server.listen()
        program = f"""
            import socket
            try:
                socket.socket(socket.AF_UNIX).connect({name!r})
                print("reached")
            except OSError:
                print("refused")
            """
        (spied,) = run(home, python("job-1-a1-r0", program))
    assert spied.stdout == "refused\n"


def test_nothing_outside_the_steps_directory_and_tmp_can_be_written(home: Path) -> None:
    (spied,) = run(
        home,
        python(
            "job-1-a1-r0",
            """
            import os
            written = []
            for top, names, _ in os.walk("/"):
                if top.startswith(("/proc", "/sys")):
                    names.clear()
                    continue
                try:
                    with open(os.path.join(top, "mark"), "w") as file:
                        file.write("x")
                    written.append(top)
                except OSError:
                    pass
            # Below /tmp, which is its own, lie the mount points of a Python that lies there outside.
            print(sorted(top for top in written if not top.startswith("/tmp/")))
            for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"):
                try:
                    open(path, "w").write("1")
                    print("wrote", path)
                except OSError:
                    print("refused")
            """,
        ),
    )
    assert spied.stdout == "['/dev/shm', '/job', '/tmp']\n" + "refused\n" * 3, spied.stderr


def test_a_fork_bomb_is_ended_early_and_its_neighbour_goes_on(home: Path) -> None:
    """The bomb stops by itself after 3,000 forks; the wall stands at `STEP_PROCESSES_MAX`."""
    bomb = python(
        "job-1-a1-r0",
        """
        import os, time
        forks = 0
        while forks < 3000:
            try:
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
                forks += 1
            except OSError as error:
                print("refused after", forks, flush=True)
                break
        time.sleep(1)
        """,
        devices=Devices(1000, 2048 * MIB),
    )
    neighbour = python("job-2-a1-r0", "import os\nfor _ in range(5): os.fork() or os._exit(0)\nprint('fine')")
    bombed, fine = run(home, bomb, neighbour)
    if bombed.ended.reason is Reason.EXIT:  # the kernel's limit was there first, else the watch was
        assert int(bombed.stdout.split()[-1]) <= STEP_PROCESSES_MAX
    else:
        assert bombed.ended.reason is Reason.MEMORY
    assert fine.stdout == "fine\n"


def test_one_process_that_eats_memory_is_ended(home: Path) -> None:
    """It stops by itself at 1 GiB; it asked for 256 MiB."""
    program = """
        import time
        held = []
        for _ in range(64):
            held.append(b"x" * (16 << 20))
            time.sleep(0.005)
        print("ate it all")
        """
    (eater,) = run(home, python("job-1-a1-r0", program))
    assert eater.ended.reason is Reason.MEMORY or "MemoryError" in eater.stderr
    assert "ate it all" not in eater.stdout
    assert eater.ended.memory_peak_bytes > 200 * MIB


def test_many_small_processes_that_eat_memory_together_are_ended(home: Path) -> None:
    """Sixteen of 48 MiB each; none is over the limit alone."""
    program = """
        import os, time
        for _ in range(16):
            if os.fork() == 0:
                held = bytearray(os.urandom(1 << 20) * 48)
                time.sleep(20)
                os._exit(0)
        time.sleep(20)
        print("ate it all")
        """
    (eaters,) = run(home, python("job-1-a1-r0", program))
    assert eaters.ended.reason is Reason.MEMORY
    assert "256M" in eaters.ended.message


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_files_in_memory_count_as_memory(home: Path, place: str) -> None:
    """A tmpfs is filled up to its own bound, and more memory is taken besides."""
    program = f"""
        import time
        with open("{place}/fill", "wb") as file:
            try:
                for _ in range(1024):
                    file.write(bytes(1 << 20))
            except OSError:
                print("full", flush=True)
        held = bytearray(b"x" * (100 << 20))
        time.sleep(20)
        """
    (filler,) = run(home, python("job-1-a1-r0", program))
    assert filler.ended.reason is Reason.MEMORY
    assert filler.stdout in ("", "full\n")


def test_memory_files_count_as_memory(home: Path) -> None:
    """A memfd that nobody maps belongs to no process's resident set."""
    program = """
        import os, time
        fd = os.memfd_create("hidden")
        for _ in range(600):
            os.write(fd, bytes(1 << 20))
        time.sleep(20)
        print("kept it all")
        """
    (filler,) = run(home, python("job-1-a1-r0", program))
    assert filler.ended.reason is Reason.MEMORY


def test_a_step_that_fills_the_disk_is_ended(home: Path) -> None:
    """In many files, each below the limit on one file; it stops by itself at 512 MiB and may write 64."""
    program = """
        import time
        for number in range(32):
            with open(f"fill-{number}", "wb") as file:
                file.write(bytes(16 << 20))
        time.sleep(30)
        print("wrote it all")
        """
    (filler,) = run(home, python("job-1-a1-r0", program, disk_bytes=64 * MIB))
    assert filler.ended.reason is Reason.DISK
    assert "64M" in filler.ended.message


def test_a_file_without_a_name_counts_as_disk(home: Path) -> None:
    program = """
        import os, time
        for number in range(8):
            os.open(f"fill", os.O_RDWR | os.O_CREAT)
            fd = os.open("fill", os.O_RDWR)
            os.unlink("fill")
            for _ in range(16):
                os.write(fd, bytes(1 << 20))
        time.sleep(30)
        print("kept it all")
        """
    (filler,) = run(home, python("job-1-a1-r0", program, disk_bytes=64 * MIB))
    assert filler.ended.reason is Reason.DISK


def test_one_file_cannot_grow_beyond_the_steps_disk(home: Path) -> None:
    program = """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open("fill", "wb") as file:
                for _ in range(256):
                    file.write(bytes(1 << 20))
        except OSError as error:
            print(error.strerror)
        """
    (filler,) = run(home, python("job-1-a1-r0", program, disk_bytes=64 * MIB))
    assert filler.stdout == "File too large\n" or filler.ended.reason is Reason.DISK


def test_nothing_outlives_a_step_by_forking_twice(home: Path) -> None:
    mark = f"mycelium-test-{os.getpid()}-{time.monotonic_ns()}"
    program = f"""
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("python3", ["python3", "-c", "import time; time.sleep(60)", "{mark}"])
            os._exit(0)
        time.sleep(0.3)
        """
    (step,) = run(home, python("job-1-a1-r0", program))
    assert step.ended.exit_code == 0
    for pid in usage.pids():
        try:
            assert mark.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue


def test_a_setuid_program_gives_no_privileges(home: Path) -> None:
    program = """
        import os, subprocess
        status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
        print(status["NoNewPrivs"].strip(), status["CapEff"].strip(), status["CapBnd"].strip())
        for attempt in (lambda: os.setuid(0), lambda: os.chown(".", 0, 0), lambda: os.mknod("d", 0o60600, 0x800)):
            try:
                attempt()
                print("did it")
            except OSError:
                print("refused")
        said = subprocess.run(["su", "-c", "id -u"], capture_output=True, text=True)
        print(said.stdout.strip() == "0")
        """
    (spied,) = run(home, python("job-1-a1-r0", program))
    assert spied.stdout == f"1 {'0' * 16} {'0' * 16}\n" + "refused\n" * 3 + "False\n", spied.stderr


def test_no_namespaces_mounts_or_keyrings_can_be_made(home: Path) -> None:
    program = """
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
        print(libc.unshare(CLONE_NEWUSER), libc.unshare(CLONE_NEWNS), libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
        KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
        print(libc.syscall(KEYCTL, 0, -3, 0), errno.errorcode[ctypes.get_errno()])
        """
    (spied,) = run(home, python("job-1-a1-r0", program))
    assert spied.stdout == "-1 -1 -1\n-1 EPERM\n", spied.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root agent can give every step a user of its own")
def test_steps_of_a_root_agent_run_as_different_users_none_of_them_root(home: Path) -> None:
    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            uids: set[int] = set()
            for name in ("job-1-a1-r0", "job-2-a1-r0"):
                here = len(site.said)
                await site.start(python(name, "print('here', flush=True); import time; time.sleep(60)"))
                await site.tail(len(uids), name)
                await site.until(lambda said: True if getattr(said, "data", b"") == b"here\n" else None, after=here)
                below = usage.descendants(site.shim(name).pid)
                found = {Path(f"/proc/{pid}").stat().st_uid for pid in below}
                assert 0 not in found
                assert len(found) == 1
                uids |= found
            assert len(uids) == 2

    asyncio.run(script())


def test_links_in_the_steps_directory_lead_no_collector_outside(home: Path) -> None:
    program = """
        import os
        os.symlink("/etc/shadow", "shadow")
        os.symlink("/etc", "etc")
        os.symlink("/", "root")
        open("fine", "w").write("fine")
        """

    async def script() -> None:
        from mycelium.store.unpack import unpack

        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            found = await result(site, python("job-1-a1-r0", program, outputs=("**", "etc/**", "shadow", "root/etc/*")))
            assert found.ended.exit_code == 0, found
            assert found.ended.outputs is not None
            into = home / "fetched"
            unpack(site.objects, found.ended.outputs, into)
            assert (into / "fine").read_text() == "fine"
            for path in into.rglob("*"):
                assert path.is_symlink() or path.name == "fine"

    asyncio.run(script())
