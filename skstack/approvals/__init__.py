"""Approvals: levels are decided in order, each by one member of its group."""
