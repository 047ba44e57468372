"""Where the calls of a program run: processes of this machine, ranks of a gang, actors of a Ray.

| room | a seat is |
|---|---|
| `local` | a worker process of this machine |
| `gang` | one that another rank of the gang keeps, over TCP |
| `ray` | a pinned actor on any node of a Ray |
"""
