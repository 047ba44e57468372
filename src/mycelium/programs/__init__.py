"""Polymer programs on a site: what the steps of a program job run, and how several nodes work on one program."""
