"""A site's client: what `myc` and the public Python API ask a site with.

Never: decides anything; the site does.
"""
