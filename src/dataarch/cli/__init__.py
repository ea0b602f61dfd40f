"""The command ``dataarch``, for operators: servers, schema, partitions, and the demonstration."""

from dataarch.cli.app import app, main

__all__ = ["app", "main"]
