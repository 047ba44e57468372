"""Objects between machines: a porter on each one gives and takes them, and a tier of the store fetches what it lacks.

| module | is |
|---|---|
| `wire` | what porters are asked and what they answer |
| `porter` | the process that serves the objects of one machine |
| `carried` | the store of a machine that gets what it lacks from the nearest porter that has it |

Never: trusts a byte that came over the wire before its hash was checked.
"""
