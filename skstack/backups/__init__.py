"""Backups: everything of an instance in one file, and an instance from such a file."""
