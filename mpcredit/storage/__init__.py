"""Adapters that keep things on this machine."""
