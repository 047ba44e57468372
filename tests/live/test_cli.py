"""`myc` as a person uses it: real processes against a real site."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.site import LiveSite, wait_for

Myc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A person's project."""
    work = tmp_path / "project"
    work.mkdir()
    (work / "hello.txt").write_text("from the project\n")
    (work / ".gitignore").write_text("secret\n")
    (work / "secret").write_text("stays here")
    return work


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "mycelium.cli.main", *words]


@pytest.fixture
def myc(shared_site: LiveSite, work: Path) -> Myc:
    def run(*words: str, home: Path = shared_site.home, **how: Any) -> subprocess.CompletedProcess[str]:
        env = {**shared_site.env, "MYC_HOME": str(home)}
        given = {"stdin": subprocess.DEVNULL} if "input" not in how else {}
        return subprocess.run(
            command(*words), cwd=work, env=env, capture_output=True, text=True, timeout=120, check=False, **given, **how
        )

    return run


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Running.


def test_run_shows_what_the_command_prints_and_exits_as_it_does(myc: Myc):
    done = myc("run", "--", "sh", "-c", "cat hello.txt; echo oh >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "from the project\n", "oh\n")


def test_run_sends_what_git_would_take_and_nothing_else(myc: Myc):
    assert myc("run", "--", "sh", "-c", "ls -A").stdout.split() == [".gitignore", "hello.txt"]
    assert myc("run", "--workdir", "none", "--", "sh", "-c", "ls -A").stdout == ""


def test_output_comes_while_the_job_runs(shared_site: LiveSite, work: Path):
    words = command("run", "--", "sh", "-c", "echo first; while [ ! -e /nowhere ]; do sleep 0.1; done")
    process = subprocess.Popen(words, cwd=work, env=shared_site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"  # the job goes on for ever
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    (job,) = document_of(shared_site, "jobs")["jobs"]
    shared_site.post(f"/jobs/{job['id']}/cancel")
    shared_site.wait(job["id"])


def document_of(site: LiveSite, *words: str) -> Any:
    done = subprocess.run(command(*words, "--json"), env=site.env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_bytes_pass_unaltered(shared_site: LiveSite, work: Path):
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)"
    done = subprocess.run(
        command("run", "--", "python3", "-c", program), cwd=work, env=shared_site.env, capture_output=True, check=True
    )
    assert done.stdout == bytes(range(256)) * 1000


def test_run_with_json_prints_one_document_and_the_output_beside_it(myc: Myc):
    done = myc("run", "--json", "--", "echo", "hi")
    assert document(done)["state"] == "done"
    assert done.stderr == "hi\n"


def test_detach_prints_the_name_and_attach_follows(myc: Myc):
    name = myc("run", "--detach", "--", "sh", "-c", "echo late; exit 3").stdout.strip()
    done = myc("attach", name)
    assert (done.returncode, done.stdout) == (3, "late\n")


def test_an_array_exits_with_0_only_if_every_task_did(myc: Myc):
    good = myc("run", "--array", "0-3", "--", "true")
    assert good.returncode == 0
    assert "4 of 4 tasks done" in good.stderr
    bad = myc("run", "--array", "0-3", "--", "sh", "-c", 'echo "task $MYC_ARRAY_INDEX"; test $MYC_ARRAY_INDEX != 2')
    assert bad.returncode == 1
    assert "3 of 4 tasks done" in bad.stderr
    failed = next(word.strip("`") for word in bad.stderr.split() if word.strip("`").endswith(".2"))
    assert myc("logs", failed).stdout == "task 2\n"


def test_a_dry_run_says_what_would_happen_and_submits_nothing(myc: Myc):
    before = document(myc("jobs", "--all", "--json"))["jobs"]
    assert "start now" in myc("run", "--dry-run", "--", "true").stdout
    assert document(myc("jobs", "--all", "--json"))["jobs"] == before


def test_what_can_never_run_is_refused_with_the_bound(myc: Myc):
    done = myc("run", "--cpus", "999", "--", "true")
    assert done.returncode == 2
    assert "job asks for 999 cpus; the largest node has" in done.stderr
    assert "hint:" in done.stderr


def test_the_environment_and_a_name_go_along(myc: Myc):
    done = myc("run", "--json", "--name", "mine", "--env", "A=b c", "--", "sh", "-c", 'echo "$A" "$MYC_JOB_NAME"')
    assert document(done)["name"] == "mine"
    assert done.stderr == "b c mine\n"


def test_a_directory_that_is_too_large_is_refused_with_the_sum(myc: Myc, work: Path):
    with (work / "large.bin").open("wb") as file:
        file.truncate(600 << 20)  # sparse: it takes no room
    done = myc("run", "--", "true")
    assert done.returncode == 2
    assert "holds 600M; at most 512M are uploaded" in done.stderr
    assert "large.bin 600M" in done.stderr


# Ctrl-C.


def test_ctrl_c_once_detaches_and_twice_cancels(shared_site: LiveSite, work: Path):
    process = subprocess.Popen(
        command("run", "--", "sh", "-c", "echo begun; sleep 1000"),
        cwd=work,
        env=shared_site.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    detached = process.stderr.readline()
    assert "goes on. Ctrl-C again cancels it" in detached
    assert "myc attach" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 143
    assert shared_site.state(detached.split()[1]) == "cancelled"


# On a terminal.


def on_a_terminal(words: list[str], site: LiveSite, work: Path) -> str:
    """What a person sees."""
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.extend(data)
        except OSError:
            return  # the other end is closed

    env = {**site.env, "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(words, cwd=work, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    process.wait(60)
    reader.join(60)
    os.close(ours)
    return seen.decode()


def test_a_terminal_gets_colours_and_progress_and_a_pipe_gets_neither(shared_site: LiveSite, work: Path, myc: Myc):
    words = ("run", "--array", "0-1", "--", "true")
    seen = on_a_terminal(command(*words), shared_site, work)
    assert "━" in seen
    assert "\x1b[" in seen
    plain = myc(*words)
    assert "\x1b" not in plain.stdout + plain.stderr
    assert "━" not in plain.stderr


def test_a_job_that_waits_says_why(shared_site: LiveSite, work: Path):
    blocker = shared_site.submit("sleep", "1000", nodes=2, workdir=None)
    shared_site.wait(blocker, "running")
    process = subprocess.Popen(
        command("run", "--", "echo", "at last"),
        cwd=work,
        env=shared_site.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert " waits: " in process.stderr.readline()
    shared_site.post(f"/jobs/{blocker}/cancel")
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "at last\n"


# Job files.


def test_a_job_file_has_the_keys_of_the_options(myc: Myc, work: Path):
    (work / "job.toml").write_text('command = "cat hello.txt; echo $X"\nmemory = "64M"\n[env]\nX = "1"\n')
    done = myc("submit", "--wait", "job.toml")
    assert (done.returncode, done.stdout) == (0, "from the project\n1\n")


# Looking.


def test_listings_show_jobs_and_json_carries_what_was_promised(myc: Myc):
    name = document(myc("run", "--json", "--", "true"))["id"]
    shown = myc("jobs", "--all").stdout
    assert shown.splitlines()[0].split()[:4] == ["JOB", "NAME", "ACCOUNT", "STATE"]
    assert name in shown
    found = document(myc("jobs", "--all", "--json"))["jobs"][0]
    promised = {"id", "name", "account", "state", "attempt", "nodes", "exit_code", "submitted", "started", "ended"}
    assert promised <= set(found)


def test_one_page_of_jobs_leads_to_the_next(myc: Myc):
    for _ in range(3):
        myc("run", "--detach", "--workdir", "none", "--", "true")
    first = myc("jobs", "--all", "--limit", "2")
    assert len(first.stdout.splitlines()) == 3
    last = first.stdout.splitlines()[-1].split()[0]
    assert f"--before {last}" in first.stderr
    second = document(myc("jobs", "--all", "--limit", "2", "--before", last, "--json"))["jobs"]
    assert all(int(job["id"][4:]) < int(last[4:]) for job in second)


def test_a_job_explains_itself(myc: Myc):
    name = document(myc("run", "--json", "--", "true"))["id"]
    assert "exit code" in myc("job", "show", name).stdout
    assert "has ended" in myc("why", name).stdout
    story = myc("story", name).stdout
    assert "submitted" in story
    assert story.index("started") < story.index("exited with 0")


@pytest.fixture(scope="module")
def ended(shared_site: LiveSite) -> str:
    """A job that has ended."""
    job = shared_site.submit("echo", "x")
    shared_site.wait(job)
    return job


@pytest.mark.parametrize(
    "words",
    [
        ("status",), ("nodes",), ("node", "show", "node-1"), ("jobs",), ("job", "show", "JOB"), ("logs", "JOB"),
        ("why", "JOB"), ("story", "JOB"), ("outputs", "JOB"), ("account", "list"), ("audit", "verify"),
        ("cancel", "JOB"), ("attach", "JOB"), ("run", "--dry-run", "true"),
    ],
)  # fmt: skip
def test_json_is_exactly_one_document(myc: Myc, ended: str, words: tuple[str, ...]):
    asked = [ended if word == "JOB" else word for word in words]
    asked.insert(1 if words[0] == "run" else len(asked), "--json")
    json.loads(myc(*asked).stdout)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("job", "show", "job-999999"), 3),
        (("why", "999999"), 3),
        (("node", "drain", "node-999"), 3),
        (("logs", "banana"), 2),
        (("outputs", "job-999999"), 3),
    ],
)
def test_exit_codes_are_those_of_the_table(myc: Myc, words: tuple[str, ...], code: int):
    done = myc(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("myc: ")


# Outputs.


def test_outputs_come_back_as_they_were_left(myc: Myc, tmp_path: Path):
    script = "mkdir -p out/deep; echo 1 > out/a.txt; echo 2 > out/deep/b.txt; chmod +x out/a.txt; echo 3 > c.txt"
    name = document(myc("run", "--json", "--outputs", "out", "--", "sh", "-c", script))["id"]
    assert myc("outputs", name, str(tmp_path / "got")).returncode == 0
    assert (tmp_path / "got/out/deep/b.txt").read_text() == "2\n"
    assert os.access(tmp_path / "got/out/a.txt", os.X_OK)
    assert not (tmp_path / "got/c.txt").exists()
    again = myc("outputs", name, str(tmp_path / "got"))
    assert again.returncode == 5
    assert "in the way" in again.stderr
    assert myc("outputs", "--force", name, str(tmp_path / "got")).returncode == 0


def test_outputs_of_an_array_lie_apart_and_feed_the_next_job(myc: Myc, tmp_path: Path):
    words = ("sh", "-c", "echo $MYC_ARRAY_INDEX > n.txt")
    name = document(myc("run", "--json", "--array", "0-2", "--outputs", "n.txt", "--", *words))["id"]
    assert myc("outputs", name, str(tmp_path / "got")).returncode == 0
    assert [(tmp_path / f"got/{index}/n.txt").read_text() for index in range(3)] == ["0\n", "1\n", "2\n"]
    merged = myc("run", "--inputs", name, "--", "sh", "-c", f"cat inputs/{name}/*/n.txt")
    assert merged.stdout == "0\n1\n2\n"


def test_what_keeps_no_files_says_so(myc: Myc):
    name = document(myc("run", "--json", "--", "true"))["id"]
    done = myc("outputs", name)
    assert done.returncode == 0
    assert "submitted without --outputs" in done.stderr


# Accounts and logins.


def test_an_account_logs_in_and_is_kept_apart(shared_site: LiveSite, myc: Myc, tmp_path: Path):
    mine = document(myc("run", "--json", "--", "true"))["id"]
    token = myc("account", "add", "ann").stdout.strip()
    env = {**shared_site.env, "MYC_HOME": "", "XDG_CONFIG_HOME": str(tmp_path / "ann"), "HOME": str(tmp_path)}

    def as_ann(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words), env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, **how
        )

    url = str(shared_site.http.base_url)
    assert as_ann("login", url, "--token", "-", input="nonsense\n").returncode == 4
    assert as_ann("login", url, "--token", "-", input=f"{token}\n").returncode == 0
    assert (tmp_path / "ann/mycelium/logins.json").stat().st_mode & 0o777 == 0o600
    assert json.loads(as_ann("status", "--json").stdout)["account"] == "ann"
    assert as_ann("account", "add", "bob").returncode == 4
    assert as_ann("cancel", mine).returncode == 4
    myc("account", "token", "ann")
    assert as_ann("jobs").returncode == 4


# Nodes.


def test_a_node_is_drained_and_comes_back(myc: Myc):
    assert "drain" in myc("node", "drain", "node-2").stdout

    def states() -> dict[str, str]:
        return {node["id"]: node["state"] for node in document(myc("nodes", "--json"))["nodes"]}

    wait_for(lambda: states() == {"node-1": "up", "node-2": "drained"}, "the node to be drained")
    assert "up" in myc("node", "resume", "node-2").stdout


# Up and down.


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    return tmp_path / "own"


def test_up_goes_behind_and_down_ends_it(myc: Myc, own_home: Path):
    up = myc("up", "--detach", "--port", "0", "--nodes", "64", home=own_home)
    try:
        assert up.returncode == 0, up.stderr
        assert "64 virtual nodes offer 64 cpus together; this machine has" in up.stdout
        assert str(own_home / "tokens" / "admin") in up.stdout
        assert myc("status", home=own_home).returncode == 0
        second = myc("up", "--detach", "--port", "0", home=own_home)
        assert second.returncode == 5
        assert "a site runs already at http://127.0.0.1:" in second.stderr
    finally:
        down = myc("down", home=own_home)
    assert down.returncode == 0
    assert "has stopped" in down.stdout
    after = myc("status", home=own_home)
    assert after.returncode == 7
    assert "no site runs on this machine" in after.stderr


def test_the_errors_of_a_site_behind_are_told_here(shared_site: LiveSite, myc: Myc, own_home: Path):
    taken = shared_site.http.base_url.port
    done = myc("up", "--detach", "--port", str(taken), home=own_home)
    assert done.returncode == 7
    assert f"cannot listen on port {taken} of 127.0.0.1" in done.stderr
    assert "--port" in done.stderr
    blocked = own_home / "file"
    blocked.write_text("")
    assert myc("up", "--detach", home=blocked).returncode == 2
    nowhere = myc("up", "--detach", "--home", "/proc/foo", home=own_home)
    assert (nowhere.returncode, "/proc/foo cannot be used" in nowhere.stderr) == (2, True)
    foreign = myc("up", "--detach", "--host", "192.0.2.1", home=own_home)
    assert (foreign.returncode, "'192.0.2.1' is not an address of this machine" in foreign.stderr) == (2, True)


def test_the_welcome_of_a_site_behind_is_not_in_its_log(myc: Myc, own_home: Path):
    assert "Try, here" in myc("up", "--detach", home=own_home).stdout
    assert "Try" not in (own_home / "head.log").read_text()
    assert myc("down", home=own_home).returncode == 0


def test_down_without_a_valid_token_falls_back_to_the_process(tmp_path: Path, own_home: Path, myc: Myc):
    assert myc("up", "--detach", "--port", "0", home=own_home).returncode == 0
    (own_home / "tokens" / "admin").write_text("nonsense\n")
    done = myc("down", home=own_home)
    assert done.returncode == 0
    assert "by a signal to process" in done.stdout


def test_following_survives_a_head_that_is_killed_and_started_again(site: LiveSite, work: Path):
    port = site.http.base_url.port
    words = command("run", "--", "sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.1; done; echo two")
    process = subprocess.Popen(words, cwd=work, env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    site.kill()
    time.sleep(0.2)
    site.up("--port", str(port))
    (step,) = site.home.glob("nodes/*/steps/*/work")
    (step / "go").touch()
    assert process.wait(120) == 0
    assert process.stdout.read() == "two\n"


# Speed: what is imported, not how long it takes.


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("jobs",), ("--version",)])
def test_light_commands_import_nothing_heavy(shared_site: LiveSite, words: tuple[str, ...]):
    env = {**shared_site.env, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command(*words), env=env, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line}
    heavy = {"rich", "httpx", "pydantic", "fastapi", "sqlalchemy", "numpy", "asyncio", "cryptography", "psutil"}
    assert "typer" in imported
    assert not imported & heavy


# A job that waited.


def wait_state(site: LiveSite, job: str, state: str) -> None:
    wait_for(lambda: site.state(job) == state, f"{job} to be {state}")


def test_why_of_a_job_that_waits_says_for_what(shared_site: LiveSite, myc: Myc):
    first = shared_site.submit("sleep", "1000")
    second = shared_site.submit("true", after=[first])
    assert first in myc("why", second).stdout
    assert myc("cancel", first).returncode == 0
    wait_state(shared_site, first, "cancelled")
    assert myc("run", "--after", first, "--", "true").returncode == 2
