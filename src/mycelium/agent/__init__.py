"""One per node: it carries out orders, keeps its steps' directories, and tells the head what it has.

A step runs under a shim of its own, so the agent may die and come back; the head may too.
"""
