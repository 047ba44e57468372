"""Every command: where it is, under which heading `myc --help` shows it, and what it does in a line.

`myc --help` reads this table alone, so that it need not import what the commands need.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """`place` is `module:function`; several words in the command's name make it part of a group.

    `runs`: its arguments are another command, and options after the first word belong to that one.
    """

    place: str
    heading: str
    says: str
    runs: bool = False


GROUPS = {
    "node": "show a node, drain it, or take it back",
    "job": "show a job",
    "account": "who may use the site",
    "audit": "is the site's record unaltered?",
}

COMMANDS: dict[str, Command] = {
    "up": Command("up:up", "Site", "start a site on this machine"),
    "down": Command("down:down", "Site", "stop the site"),
    "status": Command("status:status", "Site", "what the site has and does"),
    "login": Command("accounts:login", "Site", "use the site at URL from now on"),
    "run": Command("run:run", "Jobs", "run a command, with the current directory, and show what it prints", runs=True),
    "submit": Command("submit:submit", "Jobs", "submit the job that a file describes"),
    "jobs": Command("jobs:jobs", "Jobs", "list jobs"),
    "job show": Command("jobs:show_job", "Jobs", "everything about one job or task"),
    "logs": Command("logs:logs", "Jobs", "what a job printed"),
    "attach": Command("logs:attach", "Jobs", "follow a job as `myc run` does"),
    "cancel": Command("jobs:cancel", "Jobs", "end a job, or one task of an array"),
    "outputs": Command("outputs:outputs", "Jobs", "fetch the files that a job kept"),
    "why": Command(
        "why:why", "Answers", "why a job waits, when it is expected to start, and what would start it sooner"
    ),
    "story": Command("why:story", "Answers", "everything that happened to a job, in order"),
    "nodes": Command("nodes:nodes", "Nodes", "list nodes"),
    "join": Command("join:join", "Nodes", "make this machine a node of a site"),
    "leave": Command("leave:leave", "Nodes", "drain this machine's node and leave the site"),
    "node approve": Command("nodes:approve", "Nodes", "let a machine in that asks to join"),
    "node invite": Command("nodes:invite", "Nodes", "print a token that lets one machine in without approval"),
    "node show": Command("nodes:show_node", "Nodes", "everything about one node"),
    "node drain": Command("nodes:drain", "Nodes", "give a node no more work, so that it can be switched off"),
    "node return": Command("nodes:back", "Nodes", "take a drained node back"),
    "node remove": Command("nodes:remove", "Nodes", "take a node out of the site"),
    "account add": Command("accounts:add", "Accounts", "add an account and print its token, once"),
    "account list": Command("accounts:list_accounts", "Accounts", "list the accounts"),
    "account token": Command("accounts:token", "Accounts", "give an account a new token; the old one ends"),
    "audit verify": Command("audit:verify", "Accounts", "walk the hash chain of the log"),
    "sim": Command("sim:sim", "Trials", "run the real head over pretend machines, with faults, from a seed"),
}
HEADINGS = ("Site", "Jobs", "Answers", "Nodes", "Accounts", "Trials")
