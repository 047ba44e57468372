"""Commands of a site and its machines: start and stop it, join it, and who may use it.

This table alone is read by `myc --help`; the module behind a command is imported when it is called.
"""

from mycelium.cli.command import Command

COMMANDS = {
    "up": Command("up:up", "Site", "start a site on this machine"),
    "down": Command("down:down", "Site", "stop the site"),
    "status": Command("status:status", "Site", "what the site has and does"),
    "login": Command("accounts:login", "Site", "use the site at URL from now on"),
    "nodes": Command("nodes:nodes", "Nodes", "list nodes"),
    "join": Command("join:join", "Nodes", "make this machine a node of a site"),
    "leave": Command("leave:leave", "Nodes", "drain this machine's node and leave the site"),
    "node approve": Command("nodes:approve", "Nodes", "let a machine in that asks to join"),
    "node invite": Command("nodes:invite", "Nodes", "print a token that lets one machine in without approval"),
    "node show": Command("nodes:show_node", "Nodes", "everything about one node"),
    "node drain": Command("nodes:drain", "Nodes", "give a node no more work, so that it can be switched off"),
    "node resume": Command("nodes:resume", "Nodes", "take a drained node back"),
    "node remove": Command("nodes:remove", "Nodes", "take a node out of the site"),
    "account add": Command("accounts:add", "Accounts", "add an account and print its token, once"),
    "account list": Command("accounts:list_accounts", "Accounts", "list the accounts"),
    "account token": Command("accounts:token", "Accounts", "give an account a new token; the old one ends"),
    "audit verify": Command("audit:verify", "Accounts", "walk the hash chain of the log"),
    "log export": Command("log:export", "Site", "write events to a file that verifies by itself"),
    "log prune": Command("log:prune", "Site", "let files alone hold old events"),
    "log verify": Command("log:verify", "Site", "walk the hash chain: exported files and the log as one"),
    "show": Command("paths:show_path", "Answers", "what the site says under a name, such as nodes/node-1"),
    "do": Command("paths:do", "Answers", "ask the site something by its name, such as nodes/node-1/drain"),
    "sim": Command("sim:sim", "Trials", "run the real head over pretend machines, with faults, from a seed"),
}
