"""MFU, recomputation and the roofline from recorded shapes."""
