"""The name that jobs of 0.1 have for `mycelium.programs.mpi`: their logs hold it, and are read for ever."""
