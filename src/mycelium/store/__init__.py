"""Objects (immutable bytes named by their BLAKE3 hash) and trees of them: working directories and outputs.

| module | is |
|---|---|
| `objects` | the interface that every tier implements |
| `directory`, `memory` | objects in a directory, objects in memory |
| `tree` | what a tree is, and which trees are refused |
| `scan` | a working directory becomes a tree |
| `unpack`, `collect` | a tree becomes a directory, a step's outputs become a tree |
| `pack` | many objects in one stream |

Never: speaks to a network.
"""
