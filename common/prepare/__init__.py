"""Bring raw head scans of a subject to a common space: register, extract the brain, resample. No config names this."""
