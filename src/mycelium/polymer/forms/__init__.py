"""The forms of a kernel: how each becomes a callable, how live ones become portable, and what is refused."""
