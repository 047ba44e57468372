"""What every package may use: units, ids, errors, limits and the clock. Standard library only."""
