"""A job as `myc run` and job files describe it: read, checked whole, and its mistakes told where they were made."""

from __future__ import annotations
