"""A gang whose rank 0 reaches the other ranks as if by ssh: what mpirun and its like need in order to start.

`myc:mpi COMMAND…` is the command of every rank: nodes know what to run for that name. Rank 0 runs COMMAND when all are
there; the others do what it asks of them and end as it ends.

| module | is |
|---|---|
| `lead` | rank 0: gathers the ranks, runs the command, tells the others how it ended |
| `follow` | the other ranks: run what they are asked to |
| `reach` | what stands in the place of ssh: `reach HOST COMMAND…` |

Never: starts anything for who does not know the secret of the attempt.
"""
