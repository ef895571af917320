"""Register raw head scans to a common space, extract the brain, and resample; used by scripts, not by configs."""
