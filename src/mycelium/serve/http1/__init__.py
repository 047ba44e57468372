"""HTTP/1.1 for asyncio, both sides: a server and a client that are bounded, strict and quick.

Never: knows what is asked.
"""
