"""The engine for many machines, on Ray: the same agents, reached through one pinned actor on each machine.

| module | runs in | is |
|---|---|---|
| `engine` | the head | the seam: nodes come and go, orders go out, reports come in |
| `bridge` | a child of the head | the only driver of Ray: membership, actors, pings |
| `relay` | a worker of Ray on each machine | the actor: it passes frames between the bridge and the agents there |
| `raylet` | the head and every machine | Ray's own processes as children: start, find again, end |
| `messages` | engine and bridge | what they tell each other |

Ray is used thinly and never as memory: all of it may be thrown away and built again while steps go on under their
shims. Only `bridge`, `relay` and the pool import `ray`.
"""
