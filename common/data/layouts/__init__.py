"""Layouts of data sets: which files a subject has, by their folders and names."""
