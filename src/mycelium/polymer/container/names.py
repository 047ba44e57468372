"""What the files of a site's authority are called, below its directory."""

CERTIFICATE, REVOKED = "authority.pem", "revoked.pem"
