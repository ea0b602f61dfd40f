"""How records become rows: appended, upserted by a key, or in the place of a slice."""
