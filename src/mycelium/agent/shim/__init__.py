"""What runs beside each step: the shim, the small server that forks it, and what both write to the step's directory.

Never: imports anything but the standard library, msgspec and rules, because it starts with every step.
"""
