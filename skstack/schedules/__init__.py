"""Schedules: what the system starts by itself, once at a planned time or again and again."""
