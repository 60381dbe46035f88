"""One module for each command, found by its name; each has its click command as `command`."""
