"""`myc`: the commands. Each is one function in one module, found through the table in `commands.py`.

Never: decides anything. A command reads what it was told, asks the site over HTTP, and prints.
"""
