"""The version of this release, in the one place where it is written. Nodes of a site must have the same."""

__version__ = "0.1.0"
