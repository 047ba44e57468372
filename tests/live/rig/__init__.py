"""Hosts that are network namespaces, joined by a bridge: several machines on one, with cables to pull."""
