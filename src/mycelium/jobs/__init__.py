"""The queue: who runs where, why not yet, and what became of it."""
