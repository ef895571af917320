"""Register raw head scans to a common space, extract the brain, and resample. No config uses this package."""
