"""Layouts of data sets: find each subject's files by folder and file names."""
