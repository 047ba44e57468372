"""`python -m mycelium.engine.gang`, as the step of a gang of 0.1 runs it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("mycelium.programs.mpi", run_name="__main__", alter_sys=True)
