"""Where Alembic comes in; the work is done in :mod:`dataarch.rollout.environment`."""

from dataarch.rollout.environment import run

run()
