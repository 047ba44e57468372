"""How fast it is: `python -m bench` runs every benchmark, each in a process of its own. See docs/benchmarks.md.

A benchmark is a module here with `run(small: bool) -> list[Row]`, which ends in `alone(title, run)` so that
`python -m bench.NAME [--small] [--peers] [--json FILE]` runs it by itself. Being here is all it takes to be run.
"""
