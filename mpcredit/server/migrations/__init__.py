"""Migrations of the server's tables (alembic); they ship with the package and run when the server starts."""
