"""How the command line behaves, whatever the command: help, mistakes, colour."""
