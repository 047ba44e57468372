"""Language models for people and programs: the head's doors to them, and the gateway that speaks OpenAI's API.

The gateway is a process of its own beside the head (`python -m mycelium.serve.gateway`), so that tokens never delay the
head, and neither ends with the other.
"""
