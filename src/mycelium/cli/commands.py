"""Every command: the tables of all groups, in the order in which `myc --help` shows them.

`myc --help` reads these tables alone, so that it need not import what the commands need.
"""

from __future__ import annotations

from mycelium.cli import jobs, models, programs, site
from mycelium.cli.command import Command

GROUPS = {
    "node": "show a node, drain it, or take it back",
    "job": "show a job",
    "account": "who may use the site",
    "log": "the site's record: export it, prune it, verify it",
    "audit": "is the site's record unaltered?",
    "model": "the language models that the site has",
    "deployment": "what is served, and how well",
    "key": "who may ask the models, and how much",
    "polymer": "programs of typed kernels: compile, check, sign and run them",
    "ca": "the authority that vouches for signers of programs",
    "batch": "many requests at once, worked off in idle time",
}

COMMANDS: dict[str, Command] = {
    name: command._replace(place=f"{table.__name__}.{command.place}")
    for table in (site, jobs, models, programs)
    for name, command in table.COMMANDS.items()
}
# Words that once were typed and still work: old -> new, in the same group. They are not in the help.
ALIASES = {"models": "deployment", "node return": "node resume"}
HEADINGS = ("Site", "Jobs", "Answers", "Nodes", "Models", "Programs", "Accounts", "Trials")
