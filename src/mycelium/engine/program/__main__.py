"""`python -m mycelium.engine.program`, as the step of a program job of 0.1 runs it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("mycelium.programs", run_name="__main__", alter_sys=True)
