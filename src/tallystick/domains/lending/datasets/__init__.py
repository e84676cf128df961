"""Public data sets of loans, boarded as they stand in their files. The files are not part of this library."""
