"""The doors: HTTP for people and programs."""
