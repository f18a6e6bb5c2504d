"""Log output: lines and their limit, levels, and the records of sessions."""
