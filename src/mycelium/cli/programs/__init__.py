"""Commands of programs of typed kernels, and who vouches for their signers.

This table alone is read by `myc --help`; the module behind a command is imported when it is called.
"""

from mycelium.cli.command import Command

COMMANDS = {
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
}
