"""Where the calls of a program run: processes of this machine, ranks of a gang, actors of a Ray.

One feeder (`feeder.py`) says who gets what next, whatever its seats are. A pool (`pool.py`) is a feeder, crews that
bring seats, and a thread that hears them. The rooms are transports: how a seat is made, sent to, heard and lost.

| room | a seat is |
|---|---|
| `local` | a worker process of this machine |
| `gang` | another rank of the gang, with the workers that it keeps, over TCP |
| `ray` | a pinned actor on any node of a Ray |
"""
