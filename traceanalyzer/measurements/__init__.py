"""What did happen: interval algebra, accounting, bubble, all-to-all, MFU. Knows no theory."""
