"""When pipelines run."""
