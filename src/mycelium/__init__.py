"""Mycelium: an operating system for clusters of unlike machines."""

__version__ = "0.1.0"
