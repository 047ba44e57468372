"""`make demo`: the main thing Mycelium does, on this machine, with real input, and every claim about it checked."""
