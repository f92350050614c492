"""The command line: parse, call, render. One file a command, one line in `main.COMMANDS`."""
