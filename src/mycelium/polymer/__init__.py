"""Polymer: an instruction set for distributed computing, made of typed kernels and programs over them.

`schema` says what values may be, `kernel` what runs, `program` how calls are joined, `compiler` makes a program
smaller, `container` makes it portable, `runtime` runs it: one interpreter as the reference and one dataflow runtime
over any pool. Never: knows which engine a pool belongs to.
"""
