"""How we reach the database: settings, engine, embedded servers, the unit of work, and the tenant's border."""
