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
    "model": "the language models that the site has",
    "models": "what is served, and how well",
    "key": "who may ask the models, and how much",
    "polymer": "programs of typed kernels: compile, check, sign and run them",
    "ca": "the authority that vouches for signers of programs",
    "batch": "many requests at once, worked off in idle time",
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
    "model pull": Command("model:pull", "Models", "fetch a language model to the site"),
    "model list": Command("model:list_models", "Models", "list the models that the site has"),
    "model show": Command("model:show_model", "Models", "everything about one model"),
    "model remove": Command("model:remove", "Models", "take a model out of the catalogue"),
    "serve": Command("serve:serve", "Models", "serve a model to everybody with a key"),
    "chat": Command("chat:chat", "Models", "talk with a model"),
    "models list": Command("models:list_deployments", "Models", "what is served, and how it stands"),
    "models top": Command("models:top", "Models", "what every replica does, and how fast"),
    "batch submit": Command("batch:submit", "Models", "submit a file of requests, to be worked off in idle time"),
    "batch list": Command("batch:list_batches", "Models", "list the batches"),
    "batch show": Command("batch:show_batch", "Models", "how far a batch is"),
    "batch results": Command("batch:results", "Models", "the results of a batch"),
    "batch cancel": Command("batch:cancel", "Models", "run no more of a batch"),
    "key create": Command("key:create", "Models", "make a key and print it, once"),
    "key list": Command("key:list_keys", "Models", "list the keys and what was used with them"),
    "key revoke": Command("key:revoke", "Models", "end a key"),
    "polymer compile": Command("polymer:compile_", "Programs", "write a program with its kernels into one file"),
    "polymer show": Command("polymer:show_", "Programs", "print a compiled program as text"),
    "polymer check": Command("polymer:check", "Programs", "check a compiled program to the last byte"),
    "polymer sign": Command("polymer:sign", "Programs", "sign a compiled program"),
    "polymer verify": Command("polymer:verify", "Programs", "who signed a compiled program"),
    "polymer run": Command("polymer:run", "Programs", "run a compiled program, here or on the site"),
    "polymer passes": Command("polymer:passes", "Programs", "the program after each pass of the compiler"),
    "ca init": Command("ca:init", "Programs", "make the site's authority, once"),
    "ca issue": Command("ca:issue", "Programs", "a key and a certificate for one who signs programs"),
    "ca list": Command("ca:list_", "Programs", "the certificates that were issued"),
    "ca revoke": Command("ca:revoke", "Programs", "take certificates back"),
    "sim": Command("sim:sim", "Trials", "run the real head over pretend machines, with faults, from a seed"),
}
HEADINGS = ("Site", "Jobs", "Answers", "Nodes", "Models", "Programs", "Accounts", "Trials")
