"""Wait and transfer of collectives and messages, and bandwidth."""
