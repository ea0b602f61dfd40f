"""How a change of the schema becomes revision files: what is there, which operations, and the files themselves."""
