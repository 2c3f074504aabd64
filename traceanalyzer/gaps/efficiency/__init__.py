"""MFU against the peak: FLOPs, waterfall, roofline."""
