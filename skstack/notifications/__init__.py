"""Notifications: who is told what, in their inbox here and through the targets that they or a flow have."""
