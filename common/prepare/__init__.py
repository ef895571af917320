"""Bring a subject's raw head scans to a common space: register, extract the brain, resample. No config uses this."""
