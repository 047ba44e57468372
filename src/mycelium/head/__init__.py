"""One per site, and the only writer of the log: decide, commit, apply, plan, act."""
