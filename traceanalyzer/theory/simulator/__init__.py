"""The simulator of pipeline orders. It knows no closed form."""
