"""Walls around a step: what it may see, how much it may use, and how it is ended whole.

Standard library only, and light to import: the shim of every step uses it.
"""
