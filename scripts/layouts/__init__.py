"""Find each subject's files in a data set by the names of folders and files."""
