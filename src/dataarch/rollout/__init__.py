"""How the schema changes: the environment that Alembic's revisions run in, and what they share."""
