"""A step's life on this node: prepared, started under its shim, watched, collected, forgotten."""
