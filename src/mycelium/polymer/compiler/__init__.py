"""Making programs smaller without changing what they give. Pure."""
