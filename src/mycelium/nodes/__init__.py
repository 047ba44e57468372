"""What hardware there is: nodes, their devices, and whether they can be trusted with work right now."""
