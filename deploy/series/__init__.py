"""Choose the series of a study by evidence: words, header, times and voxels. README.md states the rules."""
