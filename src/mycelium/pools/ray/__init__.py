"""A pool whose workers are actors of a Ray that runs, each pinned to one node."""
