"""How records are read: each kind of source in a file of its own."""
