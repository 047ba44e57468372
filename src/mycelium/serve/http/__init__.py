"""The HTTP API of a site. Its OpenAPI document is at /openapi.json, and readable at /docs."""
