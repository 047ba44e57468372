"""The engine for many machines, on Ray: the same agents, reached through one pinned actor on each machine.

| module | runs in | is |
|---|---|---|
| `engine` | the head | the seam: nodes come and go, orders go out, reports come in |
| `bridge` | a child of the head | the engine's driver of Ray: membership, actors, pings |
| `relay` | a worker of Ray on each machine | the actor: it passes frames between the bridge and the agents there |
| `raylet` | the head and every machine | Ray's own processes as children: start, find again, end |
| `messages` | engine and bridge | what they tell each other |
| `pool` | whoever runs a program | a pool of Polymer whose workers are actors of Ray |
| `pool_driver` | a child of the pool | the pool's driver of Ray |
| `pool_worker` | a worker of Ray | the actor of one slot: it runs batches of calls |
| `pool_messages` | pool and its driver | what they tell each other beside the calls |
| `pool_offer` | raylet and program | the file that says where a pool finds Ray |

Ray is used thinly and never as memory: all of it may be thrown away and built again while steps go on under their
shims. Only `bridge`, `lean` and `pool_driver` import `ray`.
"""
