"""The seam between the head and the machines. Nothing above it knows which engine is below."""
