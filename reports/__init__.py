"""The HTML report: a pure function of the review and its tables."""
