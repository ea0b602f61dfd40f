"""How data moves: from a file to the tenant's tables, every line accounted for."""
