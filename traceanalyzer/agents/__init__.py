"""Answers to agents: the Model Context Protocol over standard input and output, reading alone, within given folders."""
