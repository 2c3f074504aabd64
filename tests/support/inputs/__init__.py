"""Small inputs, written without the code under test."""
